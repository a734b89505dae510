"""How close one model is to another: perplexity, divergence, agreement, greedy text."""

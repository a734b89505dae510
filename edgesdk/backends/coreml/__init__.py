"""Core ML variants: with Core ML itself on macOS, elsewhere with an interpreter that proves them."""

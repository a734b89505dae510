"""Writes a GGUF file as a folder of transformers, weights in float32; run by benchmarks/peer_models.py.

    python dequantise.py MODEL.gguf FOLDER

Needs torch, transformers, accelerate and gguf.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

source, target = Path(sys.argv[1]), sys.argv[2]
where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
# What was read from a quantised file counts as quantised and is not written; a new model of its shape is.
config = read.config
if hasattr(config, "quantization_config"):
    del config.quantization_config
model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
model.load_state_dict(read.state_dict())
model.save_pretrained(target)
AutoTokenizer.from_pretrained(**where).save_pretrained(target)

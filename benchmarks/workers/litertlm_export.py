"""Writes a folder of transformers as a .litertlm file, weights in int8; run by benchmarks/peer_models.py.

    python litertlm_export.py CHECKPOINT FOLDER CACHE

Needs litert-torch. One part of it, for other models, imports a schema out of TensorFlow, which it does not
declare; the same schema comes with LiteRT and stands in for it.
"""

import sys
import types
from importlib.machinery import ModuleSpec

from ai_edge_litert import schema_py_generated

for name in ("tensorflow", "tensorflow.lite", "tensorflow.lite.python"):
    sys.modules[name] = types.ModuleType(name)
    # Whoever only asks whether TensorFlow is there looks at this, and fails where it is None.
    sys.modules[name].__spec__ = ModuleSpec(name, None, is_package=True)
sys.modules["tensorflow.lite.python"].schema_py_generated = schema_py_generated
sys.modules["tensorflow.lite.python.schema_py_generated"] = schema_py_generated

from litert_torch.generative.export_hf import export  # noqa: E402 - after the stand-in

export.export(
    model=sys.argv[1],
    output_dir=sys.argv[2],
    cache_length=int(sys.argv[3]),
    quantization_recipe="dynamic_wi8_afp32",
)

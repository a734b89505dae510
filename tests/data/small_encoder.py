"""A small sentence encoder as a folder with an ONNX file: a table of states, looked up by token."""

import json

import numpy as np
import onnx
import tokenizers
from onnx import TensorProto, helper

_TEXT = "the tram costs boiler was repaired in march a of lisbon to"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_TEXT.split()]
WIDTH = 8


def write_encoder(folder, *, seed=0, pooling="mean", most=16):
    """An encoder whose state of a token is its row of a random table; gives the table (tokens, width)."""
    table = np.random.default_rng(seed).standard_normal((len(WORDS), WIDTH)).astype(np.float32)
    axes = ["texts", "tokens"]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "encoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, axes)],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*axes, WIDTH])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    (folder / "onnx").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "onnx" / "model.onnx")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    words.normalizer = tokenizers.normalizers.BertNormalizer()
    words.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    words.add_special_tokens(WORDS[:4])
    words.save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    name = f"pooling_mode_{'cls_token' if pooling == 'cls' else 'mean_tokens'}"
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": WIDTH, name: True})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": most}))
    return table

#!/usr/bin/env bash
# tokenizers 0.22.1: whether a byte-level BPE spells every text.
#
# A good guess: it does, that is what bytes are for; a byte-level tokenizer needs no token for the unknown.
# Seen: its vocabulary holds the bytes that the training text held, unless `initial_alphabet` names them all,
# and a byte that is not in it is left out of the ids without a word: no error, no unknown token, and decoding
# gives another text. Released models have such vocabularies: SmolLM2's holds 235 of the 256 bytes.
#
# Prints what becomes of one text; fails if bytes are no longer left out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tokenizers==0.22.1
"$folder/env/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = "an 8 °C night"


def trained(alphabet):
    """A byte-level BPE of a text without the bytes of a degree sign."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["a night at 8 C, an hour at 9 C"] * 4, trainer)
    return made


failed = False
for name, alphabet in (("as it is trained by default", []), ("with all bytes", pre_tokenizers.ByteLevel.alphabet())):
    tokenizer = trained(alphabet)
    back = tokenizer.decode(tokenizer.encode(TEXT).ids)
    print(f"{name}: {TEXT!r} comes back as {back!r}")
    failed |= back != (TEXT if alphabet else "an 8 C night")
raise SystemExit("this has changed" if failed else 0)
PYTHON

import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints import fetch_hub_gguf
from edgesdk_converters.checkpoints.fetch_hub_gguf import choose_gguf, split_quantised
from edgesdk_converters.checkpoints.gguf_parts import part_names

FILES = [
    "README.md",
    "config.json",
    "Model-1B-F16.gguf",
    "Model-1B-Q4_K_M.gguf",
    "Model-1B-UD-Q4_K_XL.gguf",
    "Model-1B.Q8_0.gguf",
    "sub/Model-IQ4_NL.gguf",
    "model-q5_0-a.gguf",
    "two-Q6_K.gguf",
    "one-Q6_K.gguf",
    "BF16/Model-BF16-00002-of-00002.gguf",
    "BF16/Model-BF16-00001-of-00002.gguf",
    "a-F32-00001-of-00002.gguf",
    "b-TQ1_0-00001-of-00002.gguf",
    "b-TQ1_0-00002-of-00002.gguf",
    "b-TQ1_0.gguf",
]


@pytest.mark.parametrize(
    ("quantisation", "name"),
    [
        ("F16", "Model-1B-F16.gguf"),
        ("q4_k_m", "Model-1B-Q4_K_M.gguf"),
        ("UD-Q4_K_XL", "Model-1B-UD-Q4_K_XL.gguf"),
        ("Q8_0", "Model-1B.Q8_0.gguf"),
        ("iq4_nl", "sub/Model-IQ4_NL.gguf"),
    ],
)
def test_the_one_file_of_a_quantisation(quantisation, name):
    assert choose_gguf("a/b", FILES, quantisation) == (name,)


def test_all_parts_of_a_file_in_order():
    parts = tuple(f"BF16/Model-BF16-0000{n}-of-00002.gguf" for n in (1, 2))
    assert choose_gguf("a/b", FILES, "bf16") == parts


@pytest.mark.parametrize(
    ("quantisation", "said"),
    [
        ("Q4_0", "a/b has no GGUF file of Q4_0; it has: BF16, F16, F32, IQ4_NL, Q4_K_M, Q6_K, Q8_0, TQ1_0"),
        ("Q5_0", "a/b has no GGUF file of Q5_0"),
        ("Q6_K", "a/b has several GGUF files of Q6_K: one-Q6_K.gguf, two-Q6_K.gguf; fetch one"),
        ("F32", "a/b has a-F32-00001-of-00002.gguf, one of 2 parts, and not a-F32-00002-of-00002.gguf; take"),
        ("TQ1_0", "several GGUF files of TQ1_0: b-TQ1_0-00001-of-00002.gguf, b-TQ1_0.gguf; fetch one"),
    ],
)
def test_no_or_several_files_are_one_line(quantisation, said):
    with pytest.raises(CheckpointError) as caught:
        choose_gguf("a/b", FILES, quantisation)
    assert said in str(caught.value)


@pytest.mark.parametrize("source", ["a/b", "a/b:", "a/b:../x", "a/b:Q8/0", "C:\\a", f"a/b:{41 * 'Q'}"])
def test_what_names_no_quantisation(source):
    assert split_quantised(source) is None


def test_what_does():
    assert split_quantised("owner/name:Q8_0") == ("owner/name", "Q8_0")


def test_names_of_many_parts_are_not_made_for_every_file(monkeypatch):
    """A stranger's 10,000 names that each say 99,999 parts would be 10^9 names."""
    made = []
    monkeypatch.setattr(fetch_hub_gguf, "part_names", lambda name: made.append(name) or part_names(name))
    names = [f"m-Q8_0-{n:05d}-of-99999.gguf" for n in range(2, 5)]
    with pytest.raises(CheckpointError, match=r"one of 99999 parts, and not m-Q8_0-00001-of-99999\.gguf"):
        choose_gguf("a/b", names, "Q8_0")
    assert len(made) == 1

import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.fetch_hub_gguf import choose_gguf, split_quantised

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
    "BF16/Model-BF16-00001-of-00002.gguf",
    "BF16/Model-BF16-00002-of-00002.gguf",
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
    assert choose_gguf("a/b", FILES, quantisation) == name


@pytest.mark.parametrize(
    ("quantisation", "said"),
    [
        ("Q4_0", "a/b has no GGUF file of Q4_0; it has: BF16, F16, IQ4_NL, Q4_K_M, Q6_K, Q8_0, UD-Q4_K_XL"),
        ("Q5_0", "a/b has no GGUF file of Q5_0"),
        ("Q6_K", "a/b has several GGUF files of Q6_K: one-Q6_K.gguf, two-Q6_K.gguf; fetch one"),
        ("BF16", "one of 2 parts; fetch them, join them with llama-gguf-split --merge"),
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

import dataclasses
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.errors import BundleError
from edgesdk.evaluation.agreement import Agreement
from edgesdk.evaluation.chats import Chats
from edgesdk.evaluation.probe import check_probe, read_probe, write_probe
from edgesdk.evaluation.probe_file import LIMIT_BYTES

V = 330  # of the fake model


@pytest.fixture
def reference(texts):
    rng = np.random.default_rng(4)
    return [rng.normal(0, 2, (len(text), V)).astype(np.float32) for text in texts]


@pytest.fixture
def file(texts, reference, tmp_path):
    path = tmp_path / "parity.npz"
    write_probe(path, texts, reference)
    return path


CHATS = Chats(
    tuple(np.array(text, np.int32) for text in ([3, 4, 5], [6])),
    tuple(np.array(text, np.int32) for text in ([7, 8], [9, 10, 11, 12])),
)


@pytest.fixture
def file_with_chats(texts, reference, tmp_path):
    path = tmp_path / "chats.npz"
    write_probe(path, texts, reference, chats=CHATS)
    return path


def test_questions_and_answers_are_read_as_they_are_written(file_with_chats, texts):
    probe = read_probe(file_with_chats, V)
    assert [text.tolist() for text in probe.texts] == [text.tolist() for text in texts]
    for name in ("questions", "answers"):
        written, found = getattr(CHATS, name), getattr(probe.chats, name)
        assert [text.tolist() for text in found] == [text.tolist() for text in written]


def test_a_probe_with_questions_reports_on_them(file_with_chats, file, fake_model):
    report = check_probe(fake_model, read_probe(file_with_chats, V))
    assert (report.chats.questions, report.chats.tokens) == (2, 4)
    without = check_probe(fake_model, read_probe(file, V))
    assert without == dataclasses.replace(report, chats=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chat_tokens": None}, "does not hold the arrays"),
        ({"chat_tokens": np.array([3, 4, 5, 6, 7, 8, 9, 10, 11, V], np.int32)}, "in the questions"),
        ({"chat_tokens": np.array([3, 4, 5, 6, 7, 8, 9, 10, 11, -1], np.int32)}, "in the questions"),
        ({"chat_tokens": np.zeros(10, np.int64)}, "int64"),
        ({"chat_questions": np.array([3, 2], np.int32)}, "in the questions"),
        ({"chat_questions": np.array([4, 0], np.int32)}, "in the questions"),
        ({"chat_questions": np.array([4], np.int32)}, "in the questions"),
        ({"chat_questions": np.array([5, -1], np.int32)}, "in the questions"),
        (
            {name: np.zeros(0, np.int32) for name in ("chat_tokens", "chat_questions", "chat_answers")},
            "in the questions",
        ),
    ],
)
def test_questions_that_cannot_be_true_are_refused(changes, message, file_with_chats):
    rewrite(file_with_chats, **changes)
    with pytest.raises(BundleError, match=message) as caught:
        read_probe(file_with_chats, V)
    assert "\n" not in str(caught.value)


def arrays_of(path):
    with np.load(path, allow_pickle=False) as loaded:
        return dict(loaded)


def rewrite(path, **changes):
    arrays = arrays_of(path) | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def test_what_is_written_is_read(file, texts, reference):
    probe = read_probe(file, V)
    for text, read in zip(texts, probe.texts, strict=True):
        np.testing.assert_array_equal(text, read)
    assert probe.top_ids.shape == probe.top_log_probs.shape == (19 + 1 + 70, 64)
    rows = np.concatenate([logits[:-1] for logits in reference])
    np.testing.assert_array_equal(probe.top_ids[:, 0], rows.argmax(-1))
    assert (np.diff(probe.top_log_probs, axis=-1) <= 0).all()


def test_equal_logits_are_ordered_as_argmax_has_them(tmp_path):
    path = tmp_path / "parity.npz"
    logits = np.zeros((3, 40), np.float32)
    logits[:, [7, 30]] = 1
    write_probe(path, [np.array([1, 2, 3], np.int32)], [logits], top=8)
    assert read_probe(path, 40).top_ids[0].tolist() == [7, 30, *range(6)]


def test_a_vocabulary_smaller_than_the_probe(tmp_path):
    path = tmp_path / "parity.npz"
    write_probe(path, [np.array([1, 2], np.int32)], [np.zeros((2, 5), np.float32)])
    assert read_probe(path, 5).top_ids.shape == (1, 5)


def test_writing_twice_gives_the_same_bytes(file, texts, reference, tmp_path):
    write_probe(tmp_path / "again.npz", texts, reference)
    assert (tmp_path / "again.npz").read_bytes() == file.read_bytes()


def test_it_says_what_whole_logits_say(file, fake_model, expected, texts, reference):
    whole = Agreement()
    for text, logits in zip(texts, reference, strict=True):
        whole.add(text, expected(text), logits)
    truth = whole.report()
    report = check_probe(fake_model, read_probe(file, V))
    assert report.positions == truth.positions
    assert report.perplexity == pytest.approx(truth.perplexity, rel=1e-6)
    assert report.reference_perplexity == pytest.approx(truth.reference_perplexity, rel=1e-6)
    assert report.perplexity_ratio == pytest.approx(truth.perplexity_ratio, rel=1e-6)
    assert report.top1_agreement == truth.top1_agreement
    assert 0 < report.kl_nats <= truth.kl_nats
    assert report.kl_nats > 0.5 * truth.kl_nats


def test_with_every_token_kept_the_divergence_is_exact(fake_model, expected, texts, reference, tmp_path):
    path = tmp_path / "parity.npz"
    write_probe(path, texts, reference, top=V)
    whole = Agreement()
    for text, logits in zip(texts, reference, strict=True):
        whole.add(text, expected(text), logits)
    assert check_probe(fake_model, read_probe(path, V)).kl_nats == pytest.approx(
        whole.report().kl_nats, rel=1e-3
    )


def test_a_model_against_itself(fake_model, expected, texts, tmp_path):
    path = tmp_path / "parity.npz"
    write_probe(path, texts, [expected(text) for text in texts])
    report = check_probe(fake_model, read_probe(path, V))
    assert report.perplexity_ratio == pytest.approx(1, abs=1e-6)
    assert report.top1_agreement == 1
    assert report.kl_nats == pytest.approx(0, abs=1e-5)


def test_long_texts_are_cut_to_the_context(fake_model, expected, tmp_path):
    path = tmp_path / "parity.npz"
    text = np.random.default_rng(0).integers(2, 300, 128).astype(np.int32)
    long = np.concatenate([text, text])
    logits = expected(text)
    write_probe(path, [long, text[:5]], [np.concatenate([logits, -logits]), logits[:5]])
    report = check_probe(fake_model, read_probe(path, V))
    assert report.positions == 127 + 4
    assert report.top1_agreement == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": None}, "does not hold the arrays"),
        ({"more": np.zeros(1)}, "does not hold the arrays"),
        ({"tokens": np.zeros(93, np.int64)}, "int64"),
        ({"tokens": np.zeros((93, 1), np.int32)}, "expected 1-dimensional"),
        ({"tokens": np.zeros(93, ">i4")}, ">i4"),
        ({"tokens": np.full(93, V, np.int32)}, "token ids"),
        ({"tokens": np.full(93, -1, np.int32)}, "token ids"),
        ({"lengths": np.array([20, 1, 72], np.int32)}, "lengths"),
        ({"lengths": np.array([20, -2, 75], np.int32)}, "lengths"),
        ({"lengths": np.array([20, 2, 70], np.int32)}, "lengths"),
        ({"lengths": np.zeros(0, np.int32)}, "lengths"),
        ({"lengths": np.array([2**31 - 1, 2**31 - 1, 95], np.int32)}, "lengths"),
        ({"next_log_probs": np.zeros(91, np.float32)}, "positions"),
        ({"next_log_probs": np.ones(90, np.float32)}, "probabilities"),
        ({"next_log_probs": np.full(90, np.nan, np.float32)}, "probabilities"),
        ({"top_ids": np.zeros((90, 64), np.int32)}, "most likely"),
        ({"top_ids": np.zeros((90, 63), np.int32)}, "positions"),
        ({"top_ids": np.zeros((90, 0), np.int32), "top_log_probs": np.zeros((90, 0), np.float32)}, "most"),
        ({"top_log_probs": np.full((90, 64), 900, np.float32)}, "probabilities"),
        ({"top_log_probs": np.full((90, 64), -np.inf, np.float32)}, "probabilities"),
        ({"top_log_probs": np.asfortranarray(np.zeros((90, 64), np.float32))}, "expected 2-dimensional"),
        ({"tokens": np.array([{}], object)}, "an array"),
    ],
)
def test_a_probe_that_cannot_be_true_is_refused(changes, message, file):
    rewrite(file, **changes)
    with pytest.raises(BundleError, match=message) as caught:
        read_probe(file, V)
    assert "\n" not in str(caught.value)


def test_a_header_cannot_ask_for_memory(file):
    """Shapes are compared with the bytes that are there before anything is made."""
    members = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            members[name] = archive.read(name)
    members["tokens.npy"] = members["tokens.npy"].replace(b"(93,), ", b"(9" + b"9" * 5 + b",),")
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(BundleError, match="bytes for the shape"):
        read_probe(file, V)


def test_compressed_and_oversized_files_are_refused(file, monkeypatch):
    np.savez_compressed(file, **arrays_of(file))
    with pytest.raises(BundleError, match="compressed"):
        read_probe(file, V)
    with file.open("r+b") as stream:
        stream.truncate(LIMIT_BYTES + 1)
    with pytest.raises(BundleError, match="expected at most"):
        read_probe(file, V)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_escapes_as_another_error(file_with_chats, data):
    file = file_with_chats
    sound = file.read_bytes()
    damaged = bytearray(sound[: data.draw(st.integers(0, len(sound)) | st.just(len(sound)))])
    # Headers and the directory are a small part of the file, and where damage does most.
    starts = [i for i in range(len(damaged)) if damaged[i : i + 2] == b"PK"]
    near = [st.sampled_from(starts).flatmap(lambda s: st.integers(s, s + 200))] if starts else []
    for at in data.draw(st.lists(st.one_of(st.integers(0, len(sound)), *near), max_size=6)):
        if at < len(damaged):
            damaged[at] = data.draw(st.integers(0, 255))
    path = file.with_name("damaged.npz")
    path.write_bytes(damaged)
    try:
        probe = read_probe(path, V)
    except BundleError as error:
        assert "\n" not in str(error)
    else:
        # Damage to the directory may leave none of the arrays that are optional.
        chats = () if probe.chats is None else (*probe.chats.questions, *probe.chats.answers)
        assert all(len(value) for value in (*chats, probe.texts))


def test_the_report_is_json(file, fake_model):
    from edgesdk.bundle.records import to_json

    report = check_probe(fake_model, read_probe(file, V))
    assert to_json(report) == dataclasses.asdict(report)

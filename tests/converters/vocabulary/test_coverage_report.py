"""The coverage report counts what it says."""

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.architectures.registry import read_spec
from edgesdk_converters.vocabulary.choose_tokens import choose_tokens
from edgesdk_converters.vocabulary.coverage_report import report_coverage
from edgesdk_converters.vocabulary.prune_request import PruneRequest
from edgesdk_converters.vocabulary.prune_vocab import prune_vocab
from edgesdk_converters.vocabulary.tokenizer_data import load_engine


@pytest.fixture
def judge(grown, corpus):
    def run(*texts, tiny="llama", coverage=0.9):
        full = grown("byte_level", tiny, padding=4)
        kept = choose_tokens(full, PruneRequest(corpus=(corpus,), coverage=coverage))
        return full, kept, report_coverage(full, prune_vocab(full, kept), kept, texts)

    return run


def test_tokens_and_lines_are_counted(judge, tmp_path):
    text = tmp_path / "held-out.txt"
    text.write_text("the list of values\n\nBrücke Mädchen 敏捷\n", encoding="utf-8")
    full, kept, report = judge(text)
    (row,) = report.texts
    engine = load_engine(full.tokenizer.tokenizer_json)
    before = [engine.encode(line + "\n").ids for line in ("the list of values", "Brücke Mädchen 敏捷")]
    changed = sum(not set(ids) <= set(kept.old_ids) for ids in before)
    assert (row.name, row.lines, row.bytes) == ("held-out.txt", 2, len(text.read_bytes()))
    assert row.tokens_before == sum(map(len, before))
    assert row.changed_lines == changed / 2 > 0
    assert row.ratio == row.tokens_after / row.tokens_before > 1
    assert row.tokens_per_byte_after == row.tokens_after / row.bytes
    assert row.round_trips


def test_a_covered_text_loses_nothing(judge, corpus):
    (row,) = judge(corpus, coverage=1.0)[2].texts
    assert row.ratio == 1
    assert row.changed_lines == 0


@pytest.mark.parametrize("tiny", ["llama", "llama-untied-bias"])
def test_savings_are_those_of_the_tables(judge, corpus, tiny):
    full, kept, report = judge(corpus, tiny=tiny)
    hidden = read_spec(full.config).hidden_size
    gone = (kept.source_rows - len(kept.old_ids)) * hidden
    saved = report.savings
    assert saved.head_before - saved.head_after == gone
    assert saved.model_before - saved.model_after == (gone if tiny == "llama" else 2 * gone)
    assert saved.decode_before - saved.decode_after == gone
    assert saved.predicted_step_speedup == saved.decode_before / saved.decode_after > 1


def test_an_empty_text_is_refused(judge, tmp_path):
    text = tmp_path / "empty.txt"
    text.write_text("\n", encoding="utf-8")
    with pytest.raises(UnsupportedOption, match=r"empty.txt is empty"):
        judge(text)


@pytest.mark.parametrize("tiny", ["llama", "llama-untied-bias"])
def test_a_pruned_head_leaves_the_input_table(grown, corpus, tiny):
    full = grown("byte_level", tiny)
    kept = choose_tokens(full, PruneRequest(corpus=(corpus,), size=600, output_only=True))
    saved = report_coverage(full, prune_vocab(full, kept), kept, ()).savings
    spec = read_spec(full.config)
    table, head = spec.vocab_size * spec.hidden_size, 600 * spec.hidden_size
    assert (saved.head_before, saved.head_after) == (table, head)
    assert saved.tables_after == table + head
    assert saved.model_after - saved.tables_after == saved.model_before - saved.tables_before
    assert saved.decode_before - saved.decode_after == table - head

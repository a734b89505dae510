from edgesdk.devices.energy import joules_between, read_joules


def test_packages_are_summed_and_their_parts_are_not(tmp_path):
    for zone, energy in (
        ("intel-rapl:0", 2_000_000),
        ("intel-rapl:1", 500_000),
        ("intel-rapl:0:0", 9_000_000),
    ):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(f"{energy}\n")
    assert read_joules(tmp_path) == 2.5


def test_none_where_there_is_nothing_to_read(tmp_path):
    assert read_joules(tmp_path) is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert read_joules(tmp_path) is None


def test_a_counter_that_began_anew_says_nothing():
    assert joules_between(5.0, 7.5) == 2.5
    assert joules_between(5.0, 1.0) is None
    assert joules_between(None, 1.0) is None

import json


def test_json_is_the_manifest(edgesdk, tiny_bundle):
    result = edgesdk("inspect", tiny_bundle, "--json")
    assert result.code == 0
    assert result.json == json.loads((tiny_bundle / "manifest.json").read_text())


def test_text_says_where_it_comes_from_and_how_close_it_is(edgesdk, tiny_bundle):
    result = edgesdk("inspect", tiny_bundle)
    assert (result.code, result.err) == (0, "")
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    for text in (manifest["source"]["files"][0]["sha256"], "llama: 2 layers", "fold_norms", "not stated"):
        assert text in result.out
    for variant in manifest["variants"]:
        assert f" {variant['name']} " in result.out
        assert f"{variant['parity']['perplexity_ratio']:.4f}" in result.out
        assert f" {variant['parity']['chats']['equal']} of 8 " in result.out


def test_an_unproven_variant_says_so(edgesdk, fake_runtime):
    assert "not proven" in edgesdk("inspect", fake_runtime()).out


def test_names_in_a_bundle_cannot_control_the_terminal(edgesdk, fake_runtime):
    bundle = fake_runtime()
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["name"] = "evil\x1b[2Jname"
    manifest["variants"][0]["recipe"] = "\x1b[31m[bold]w8"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    result = edgesdk("inspect", bundle)
    assert "\x1b" not in result.out
    assert "evil?[2Jname" in result.out
    assert "?[31m[bold]w8" in result.out

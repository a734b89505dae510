from edgesdk.devices.system_devices import Adapter, driver_versions, list_adapters


def make(root, kind, vendor, number, driver, version=None, memory=None):
    folder = root / f"class/{kind}/device"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(vendor + "\n")
    (folder / "device").write_text(number + "\n")
    (root / f"bus/pci/drivers/{driver}").mkdir(parents=True)
    (folder / "driver").symlink_to(root / f"bus/pci/drivers/{driver}")
    if version:
        (root / f"module/{driver}").mkdir(parents=True)
        (root / f"module/{driver}/version").write_text(version)
    if memory:
        (folder / "mem_info_vram_total").write_text(memory)


def test_cards_and_npus(tmp_path):
    make(tmp_path, "drm/card0", "0x10de", "0x2684", "nvidia", "550.1")
    make(tmp_path, "drm/card1", "0x1002", "0x744c", "amdgpu", memory="25753026560")
    make(tmp_path, "accel/accel0", "0x8086", "0x7d1d", "intel_vpu")
    (tmp_path / "class/drm/card0-HDMI-A-1").mkdir()  # a connector, not a card
    assert list_adapters(tmp_path) == (
        Adapter("gpu", "nvidia 0x2684", "NVIDIA", "nvidia 550.1", None),
        Adapter("gpu", "amdgpu 0x744c", "AMD", "amdgpu", 25753026560),
        Adapter("npu", "intel_vpu 0x7d1d", "Intel", "intel_vpu", None),
    )
    assert driver_versions(tmp_path)["nvidia 0x2684"] == "nvidia 550.1"


def test_none(tmp_path):
    assert list_adapters(tmp_path) == ()


def test_a_card_without_facts(tmp_path):
    (tmp_path / "class/drm/card0/device").mkdir(parents=True)
    assert list_adapters(tmp_path) == (Adapter("gpu", "card0", "", None, None),)

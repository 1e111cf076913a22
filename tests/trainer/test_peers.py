"""`benchmarks.peers`: others' detectors on our pictures, with made-up scores and no weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from benchmarks import peer_detectors, peers
from benchmarks.exact_graph import exact_graph
from benchmarks.peer_detectors import Peer, TinyLaDeDa, aeroblade_like, tiny_ladeda
from benchmarks.peer_pictures import chosen, read_left_out
from benchmarks.peer_scores import Kept, all_kept, kept_for
from benchmarks.peer_table import Detector, figures, table
from scanner.errors import UsageError
from trainer.data import load_samples
from trainer.tiers import TIERS

FAMILIES = {("g", True): "abcd", ("h", True): "efgh", ("s", False): "ijkl", ("t", False): "mnop"}
FAKE = "abcdefgh"


def detector(name: str, score, own=None, seconds=None) -> Detector:
    """`score` maps the picture's letter to its score, at all tiers alike."""
    by_tier = {tier: {key: score(key) for key in "abcdefghijklmnop"} for tier in TIERS}
    return Detector.of(name, own or {}, FAMILIES, by_tier, seconds=seconds or {})


def sure(key: str) -> float:
    return (3.0 if key in FAKE else -3.0) + ord(key) % 4 / 1000


def benchmark_json(path: Path, families=FAMILIES, score=sure) -> Path:
    rows = [
        {"family": family, "label": "fake" if fake else "real", "tier": tier,
         "keys": list(keys), "logits": [score(key) for key in keys]}
        for (family, fake), keys in families.items() for tier in TIERS
    ]  # fmt: skip
    path.write_text(json.dumps({"left_out": rows}), "utf-8")
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for label, names in (("fake", FAKE), ("real", "ijklmnop")):
        for name in names:
            path = tmp_path / "data" / label / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(ord(name)).integers(0, 256, (24, 900, 3), np.uint8)
            Image.fromarray(noise).save(path)
    return tmp_path / "data"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"some")
    return path


# -- figures


def test_a_detector_that_ranks_all_rightly_has_an_auc_of_one_at_every_tier():
    tiers = figures([detector("x", sure, {"0.5": 0.0})])["x"]["tiers"]
    assert list(tiers) == list(TIERS)
    for tier in tiers.values():
        assert tier["auc"] == 1.0
        assert tier["auc_interval"] == {"low": 1.0, "high": 1.0}
        assert tier["own"]["0.5"] == {
            "balanced_accuracy": 1.0, "real_called_real": 1.0, "fakes_found": 1.0,
        }  # fmt: skip


def test_what_is_wrong_at_its_own_threshold_alone_is_right_at_one_fitted_to_other_families():
    found = figures([detector("x", lambda key: sure(key) + 50, {"0.5": 0.0})])["x"]["tiers"]["web"]
    assert found["own"]["0.5"]["balanced_accuracy"] == 0.5
    assert found["own"]["0.5"]["real_called_real"] == 0.0
    assert found["cross_fitted"]["balanced_accuracy"] == 1.0


def test_one_family_that_fails_shows_in_its_own_auc_in_the_interval_and_in_the_difference():
    def fails_on_t(key: str) -> float:
        return 9.0 if key in "mnop" else sure(key)

    results = figures([detector("x", sure), detector("y", fails_on_t)])
    clean = results["y"]["tiers"]["clean"]
    assert clean["auc"] == 0.5
    assert clean["families"]["t"] == 0.0
    assert clean["families"]["s"] == 1.0
    # A draw of two real families has t never, once or twice.
    assert clean["auc_interval"] == {"low": 0.0, "high": 1.0}
    assert clean["auc_difference_interval"] == {"low": -1.0, "high": 0.0}
    assert results["x"]["tiers"]["clean"]["auc_difference_interval"] == {"low": 0.0, "high": 0.0}


def test_time_is_the_ratio_of_medians_on_pictures_that_both_were_timed_on():
    one = detector("x", sure, seconds={"a": 1.0, "b": 2.0, "c": 3.0})
    other = detector("y", sure, seconds={"b": 8.0, "c": 12.0, "d": 1000.0})
    results = figures([one, other, detector("z", sure)])
    assert results["x"]["cpu"] == 1.0
    assert results["y"]["cpu"] == pytest.approx(10 / 2.5)
    assert results["z"]["cpu"] is None


def test_the_table_has_a_row_for_each_tier_and_detector_and_one_for_each_family():
    some = [detector("x", sure, {"0.5": 0.0}, {"a": 1.0}), detector("y", lambda key: -sure(key))]
    lines = table(figures(some)).splitlines()
    assert "| clean | x | 1.000 (1.000-1.000) | 100.0 (100, 100) | 100.0 (100, 100) | 1 |" in lines
    assert sum(line.startswith(("| clean | ", "| web | ", "| hard | ")) for line in lines) == 6
    assert "| hard | y | 0.000 (0.000-0.000) | none |" in "\n".join(lines)
    assert "| t | 1.000 | 0.000 |" in lines


# -- pictures


def test_pictures_are_the_first_that_all_files_have_as_many_of_each_family(tmp_path: Path):
    fewer = {**FAMILIES, ("g", True): "xdcb"}
    both = [
        read_left_out(benchmark_json(tmp_path / "one.json")),
        read_left_out(benchmark_json(tmp_path / "two.json", fewer)),
    ]
    assert chosen(both, 2)["g", True] == ("b", "c")
    assert {len(keys) for keys in chosen(both, 20).values()} == {3}


def test_files_of_other_families_are_refused(tmp_path: Path):
    other = {("g", True): "abcd", ("u", False): "mnop"}
    both = [
        read_left_out(benchmark_json(tmp_path / "one.json")),
        read_left_out(benchmark_json(tmp_path / "two.json", other)),
    ]
    with pytest.raises(UsageError, match="not the same families"):
        chosen(both, 2)


@pytest.mark.parametrize(("content", "says"), [(None, "trainer benchmark"), ("[", "not JSON")])
def test_a_file_without_left_out_scores_is_named(tmp_path: Path, content, says):
    path = tmp_path / "ours.json"
    if content:
        path.write_text(content)
    with pytest.raises(UsageError, match=says):
        read_left_out(path)


# -- scoring


def test_each_detector_gets_the_picture_as_the_tier_makes_it(tmp_path, pictures, weights):
    seen = []

    def load():
        return lambda rgb: seen.append(rgb) or 0.0

    samples = load_samples(pictures)[:1]
    peers.score([Peer("p", (weights,), {}, load)], samples, tmp_path / "cache")
    untimed, clean, web, hard = seen
    assert np.array_equal(clean, np.asarray(Image.open(samples[0].path)))
    assert np.array_equal(clean, untimed)
    assert np.array_equal(web, TIERS["web"](clean))
    assert web.shape == (20, 768, 3)
    assert hard.shape == (14, 512, 3)


def test_a_run_that_broke_off_scores_only_what_is_missing(tmp_path, pictures, weights, monkeypatch):
    monkeypatch.setattr(peers, "SAVED_EVERY", 2)
    samples = load_samples(pictures)[:5]
    calls = []

    def load(last: int):
        def score(rgb):
            if len(calls) > last:
                raise KeyboardInterrupt
            calls.append(rgb)
            return float(rgb.mean())

        return score

    with pytest.raises(KeyboardInterrupt):
        peers.score([Peer("p", (weights,), {}, lambda: load(3))], samples, tmp_path / "cache")
    # One call that is not timed, then three: two of them were saved.
    assert len(all_kept(tmp_path / "cache", TIERS)["p"]["clean"].scores) == 2
    calls.clear()
    peers.score([Peer("p", (weights,), {}, lambda: load(99))], samples, tmp_path / "cache")
    assert len(calls) == 1 + 3 + 5 + 5
    kept = all_kept(tmp_path / "cache", TIERS)["p"]
    means = {s.key: float(np.asarray(Image.open(s.path)).mean()) for s in samples}
    assert kept["clean"].scores == pytest.approx(means)
    assert kept["clean"].seconds.keys() == means.keys()


def test_scores_of_other_weights_are_refused(tmp_path, weights):
    peer = Peer("p", (weights,), {}, lambda: lambda rgb: 0.0)
    kept_for(tmp_path, peer, "clean").save(tmp_path)
    weights.write_bytes(b"others")
    with pytest.raises(UsageError, match="other weights of p"):
        kept_for(tmp_path, peer, "clean")


def test_weights_that_are_not_there_are_named(tmp_path):
    peer, _ = tiny_ladeda(tmp_path / "none.pth")
    with pytest.raises(UsageError, match=r"none\.pth: No such file.*Tiny-LaDeDa, none"):
        peer.made_of()


# -- the command


def run(*arguments: str):
    return CliRunner().invoke(peers.main, arguments, catch_exceptions=False)


def test_without_weights_the_table_comes_from_the_cache_and_says_who_is_missing(tmp_path: Path):
    ours, cache = benchmark_json(tmp_path / "ours.json"), tmp_path / "cache"
    scores = {key: -sure(key) for key in "abcdefghijklmnop"}
    for tier in TIERS:
        Kept("sdxl-detector", tier, "w", {"0.5": 0.0}, scores, {"a": 2.0}).save(cache)
    Kept("CLIP probe, float32", "clean", "w", {}, scores).save(cache)
    Kept("time of fast", "clean", "w", {}, {"a": 1.0}, {"a": 0.5}).save(cache)
    out = tmp_path / "out.json"
    result = run("--ours", f"fast={ours}", "--cache", str(cache), "--out", str(out))
    assert "| web | fast | 1.000 (1.000-1.000) | 100.0 (100, 100) " in result.stdout
    assert "| web | sdxl-detector | 0.000 (0.000-0.000) | 0.0 (0, 0) " in result.stdout
    assert result.stdout.count("time of") == 0
    assert "skipped: AEROBLADE-like: no --taef2" in result.stderr
    assert "skipped: Tiny-LaDeDa: no --tiny-ladeda" in result.stderr
    assert "skipped: CLIP probe, float32: 16 of 48 scores are there" in result.stderr
    assert "skipped: sdxl-detector" not in result.stderr
    saved = json.loads(out.read_text())
    assert saved["detectors"]["sdxl-detector"]["cpu"] == 4.0
    assert saved["per_family"] == 4
    assert set(saved["skipped"]) == {
        "AEROBLADE-like", "Tiny-LaDeDa", "CLIP probe", "CLIP probe, float32",
    }  # fmt: skip


def test_the_embedded_models_are_run_for_their_time_alone(tmp_path: Path, pictures: Path):
    keys = {
        (family, fake): [f"{'fake' if fake else 'real'}/{key}.png" for key in letters]
        for (family, fake), letters in FAMILIES.items()
    }
    ours = benchmark_json(
        tmp_path / "ours.json", keys, lambda key: 2.0 if key.startswith("fake") else -2.0
    )
    result = run("--ours", f"fast={ours}", "--cache", str(tmp_path / "cache"), "--data",
                 str(pictures), "--out", str(tmp_path / "out.json"))  # fmt: skip
    timed = all_kept(tmp_path / "cache", TIERS)["time of fast"]
    assert list(timed) == ["clean"]
    assert len(timed["clean"].seconds) == peers.TIMED * len(FAMILIES)
    assert "| clean | fast | 1.000 (1.000-1.000) " in result.stdout
    assert json.loads((tmp_path / "out.json").read_text())["detectors"]["fast"]["cpu"] == 1.0


def test_weights_without_pictures_are_refused(tmp_path: Path):
    ours = benchmark_json(tmp_path / "ours.json")
    with pytest.raises(UsageError, match="give --data"):
        run("--ours", f"fast={ours}", "--cache", str(tmp_path), "--out", str(tmp_path / "o.json"),
            "--taef2", str(tmp_path))  # fmt: skip


# -- what others' detectors are made of


def quantised_product() -> tuple[bytes, np.ndarray]:
    """y = x @ W + 1 as quantize_dynamic leaves it, and W as its 8 bits have it."""
    rng = np.random.default_rng(0)
    q = rng.integers(-127, 128, (6, 5)).astype(np.int8)
    scale, zero = rng.uniform(0.01, 0.1, 5).astype(np.float32), np.zeros(5, np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["x_q", "x_s", "x_z"]),
        helper.make_node("Mul", ["x_s", "W_scale"], ["scales"]),
        helper.make_node("MatMulInteger", ["x_q", "W_quantized", "x_z", "W_zero_point"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "scales"], ["product"]),
        helper.make_node("Add", ["product", "one"], ["y"]),
    ]
    constants = {"W_quantized": q, "W_scale": scale, "W_zero_point": zero, "one": np.ones(1, "f4")}
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), q.astype(np.float32) * scale


def test_an_exact_graph_multiplies_by_the_same_weights_without_rounding_what_goes_in():
    raw, weight = quantised_product()
    x = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    exact = exact_graph(raw)
    (y,) = ort.InferenceSession(exact, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(y, x @ weight + 1, rtol=1e-5)
    left = onnx.load_from_string(exact).graph
    assert [node.op_type for node in left.node] == ["MatMul", "Add"]
    assert {item.name for item in left.initializer} == {"W_exact", "one"}


def test_a_product_that_is_laid_out_otherwise_is_refused():
    model = onnx.load_from_string(quantised_product()[0])
    model.graph.node[3].op_type = "Identity"
    with pytest.raises(ValueError, match="not a product"):
        exact_graph(model.SerializeToString())


def test_tiny_ladeda_sees_edges_along_one_diagonal_alone():
    down_right = (torch.arange(8.0)[:, None] + torch.arange(8.0))[None, None].expand(1, 3, 8, 8)
    up_right = down_right.flip(2)
    for gradient, seen, unseen in (("right", down_right, up_right), ("left", up_right, down_right)):
        net = TinyLaDeDa(gradient)
        assert (net.edges(seen)[:, :, 1:-1, 1:-1] == 12).all()
        assert (net.edges(unseen)[:, :, 1:-1, 1:-1] == 0).all()


def test_tiny_ladeda_takes_a_checkpoint_of_its_1297_parameters(tmp_path):
    net = TinyLaDeDa().eval()
    assert sum(p.numel() for p in net.parameters()) == 1297
    path = tmp_path / "WildRF_Tiny_LaDeDa.pth"
    torch.save(net.state_dict(), path)
    peer, other = tiny_ladeda(path)
    assert [peer.name, other.name] == ["Tiny-LaDeDa, WildRF", "Tiny-LaDeDa, WildRF, left"]
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    assert peer.load()(noise) != other.load()(noise)
    score = peer.load()
    assert score(noise) == score(noise) != score(np.full((64, 80, 3), 128, np.uint8))
    torch.save({"fc.weight": torch.zeros(1, 8)}, path)
    with pytest.raises(UsageError, match="no weights of Tiny-LaDeDa"):
        peer.load()


def test_the_better_an_autoencoder_draws_a_picture_the_more_suspect_it_is(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    scores = []
    for reconstruction in (nn.Identity(), nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(9, 1, 4)):
        monkeypatch.setattr(peer_detectors, "tiny_autoencoder", lambda _, r=reconstruction: r)
        (peer,) = aeroblade_like(tmp_path)
        scores.append(peer.load()(noise))
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3
    assert peer.own == {}

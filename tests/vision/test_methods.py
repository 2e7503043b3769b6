"""Model, generator, and what adapts on the device, on tiny fleets."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from duetgen.export import export_model
from duetgen.vision import Setting, assemble, make_digits, make_fleet, run_cell
from duetgen.vision.adapting import Adaptation, finetune, tent, with_statistics
from duetgen.vision.experiment import Cell, Found, served
from duetgen.vision.model import ImageEncoder, SmallNet
from duetgen.vision.report import render
from duetgen.vision.results import ACCURACY, BASE, DUET, WORST, differ, mean_over_devices, worst_tenth
from duetgen.vision.training import (
    LAYERS,
    choose_reach,
    encoder_of,
    gain_by_reach,
    make_duet,
    most_certain,
    to_float,
    train_base,
    train_duet,
)

SETTING = Setting(name="turned", world="rotation", devices=(16, 12), tested=(2, 6, 8), epochs=1)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return to_float(make_digits(24).pixels)


@pytest.fixture
def model() -> SmallNet:
    torch.manual_seed(0)
    model = SmallNet(1, 10)
    for _, norm in model.stages():
        torch.nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    return model.eval()


def test_a_set_of_images_has_no_order_and_padding_no_say(model: SmallNet, images: torch.Tensor) -> None:
    encoder = ImageEncoder(model).eval()
    one = encoder(images[None, :5])
    assert torch.allclose(one, encoder(images[None, :5].flip(1)), atol=1e-5)
    padded = torch.cat([images[None, :5], torch.zeros(1, 3, 1, 32, 32)], dim=1)
    assert torch.allclose(one, encoder(padded), atol=1e-5)
    assert torch.allclose(one, encoder(encoder.describe(images[:5])[None]), atol=1e-5)
    assert not torch.allclose(one, encoder(images[None, 5:10]), atol=1e-3)


def test_a_device_unlike_any_in_training_gets_batch_norm_adaptation(model: SmallNet, images: torch.Tensor) -> None:
    duet = make_duet(model, LAYERS, keep=True).eval()
    encoder = duet.generator.encoder
    assert isinstance(encoder, ImageEncoder)
    make_strange(encoder)
    padded = torch.cat([images[None, :5], torch.zeros(1, 3, 1, 32, 32)], dim=1)
    strange_1 = encoder.strangeness(encoder.describe(images[:5])[None], torch.ones(1, 5, dtype=torch.bool))
    for reach in (1.0, 0.5):
        duet.generator.reach = reach
        for given in (images[None, :5], padded):
            own = duet.personal(duet.generate(given)[0], images[8:16])
            # Images vary by four times what devices do; this device deviates by as much more as it is strange.
            share = reach * 5 / (5 + 4 / float(strange_1))
            expected = with_statistics(model, images[:5], 5 / share - 5)(images[8:16])
            torch.testing.assert_close(own, expected, atol=1e-3, rtol=1e-3)
            assert not torch.allclose(own, model(images[8:16]), atol=1e-2)
    duet.generator.reach = 0.0
    assert torch.equal(duet.personal(duet.generate(images[None, :5])[0], images[8:16]), model(images[8:16]))
    encoder.usual.fill_(1e6)
    learnt = duet.generate(encoder.describe(images[:5])[None])
    torch.testing.assert_close(duet.generate(images[None, :5]), learnt, atol=1e-4, rtol=1e-4)


def test_how_far_to_go_is_what_the_least_fortunate_kind_gains_most_by() -> None:
    # The least gains are 0, 0.02, 0.05, 0.03 and -0.1.
    assert most_certain([[0.0, 0.1, 0.2, 0.3, 0.4], [0.0, 0.02, 0.05, 0.03, -0.1]]) == 0.5
    assert most_certain([[0.0, 0.1, 0.2, 0.3, 0.4], [0.0, -0.01, -0.02, -0.01, -0.1]]) == 0.0
    # What one kind gains says nothing of the next.
    assert most_certain([[0.0, 0.1, 0.2, 0.3, 0.4]]) == most_certain([]) == 0.0


def test_faint_devices_gain_by_their_statistics_and_usual_ones_are_not_tried() -> None:
    plain = Setting(name="plain", world="plain", devices=(40, 32), epochs=1)
    fleet = make_fleet(make_digits(1000), plain, "train", 0)
    duet = make_duet(train_base(fleet, 10, 12, 0), {"norm*": "scale"}, keep=True).eval()
    encoder = encoder_of(duet)
    encoder.calibrate(torch.stack([encoder.describe(to_float(pixels)) for pixels in fleet.pixels]))
    assert gain_by_reach(duet, fleet) is None
    gains = gain_by_reach(duet, replace(fleet, pixels=fleet.pixels // 2))
    assert gains is not None
    assert gains[0] == 0
    assert gains[-1] > gains[1] > 0.05


def test_kinds_that_every_device_is_of_are_not_left_out() -> None:
    fleet = make_fleet(make_digits(100), SETTING, "train", 0)
    assert fleet.kinds() == [{"rotation"}] * 16
    assert choose_reach(fleet, 10, 1, 0) == 0.0


def make_strange(encoder: ImageEncoder) -> None:
    """Devices of training hardly differ, so that any device is unlike them."""
    encoder.between_F.fill_(1e-3)
    encoder.within_F.fill_(4e-3)
    encoder.usual.fill_(0.6)


def test_devices_of_training_are_usual_and_others_are_not(model: SmallNet) -> None:
    encoder = ImageEncoder(model).eval()
    images = to_float(make_digits(400).pixels)
    feature_DNF = encoder.describe(images).unflatten(0, (40, 10))
    encoder.calibrate(feature_DNF)
    real = torch.ones(40, 10, dtype=torch.bool)
    assert 0.5 < float(encoder.strangeness(feature_DNF, real).mean()) < 1.5
    # 99 % of the training devices, of 40 all but one, have all of what is learnt.
    assert int((encoder.familiarity(encoder.strangeness(feature_DNF, real), early=False) == 1).sum()) == 39
    dark = encoder.describe(images * 0.3).unflatten(0, (40, 10))
    assert float(encoder.familiarity(encoder.strangeness(dark, real), early=True).max()) == 0
    # Half as far as from what is usual, or from 1, to twice the usual.
    assert float(encoder.familiarity(1.5 * encoder.usual, early=False)) == pytest.approx(0.5)
    assert encoder.familiarity(torch.stack([torch.tensor(0.7), 0.5 + encoder.usual]), early=True).tolist() == (
        pytest.approx([1.0, 0.5])
    )


@pytest.mark.slow
def test_what_images_make_personal_is_published(model: SmallNet, images: torch.Tensor, tmp_path: Path) -> None:
    duet = make_duet(model, LAYERS, keep=True).eval()
    make_strange(encoder_of(duet))
    duet.generator.reach = 1.0
    pixels = make_digits(24).pixels
    bundle = export_model(
        duet,
        tmp_path / "bundle",
        key=Ed25519PrivateKey.generate(),
        name="digits",
        inputs={"image": images[:3]},
        histories=[pixels[:6], pixels[6:9]],
        samples="uint8",
        scale=1 / 255,
    )
    theta = np.array(bundle.model_canary().theta, dtype=np.float32)
    np.testing.assert_allclose(theta, duet.generate(images[None, :6])[0].detach(), atol=1e-4)
    assert np.abs(theta).max() > 0.1


@pytest.mark.slow
def test_the_graph_that_is_timed_adapts_strange_devices_alone(model: SmallNet) -> None:
    pixels = make_digits(24).pixels
    both = np.stack([pixels[:6], pixels[:6] // 4])
    duet = make_duet(model, LAYERS, keep=True).eval()
    encoder = encoder_of(duet)
    encoder.calibrate(encoder.describe(to_float(pixels)).unflatten(0, (4, 6)))
    duet.generator.reach = 1.0
    real = torch.ones(2, 6, dtype=torch.bool)
    usual, strange = encoder.strangeness(encoder.described(to_float(both), real), real).tolist()
    assert usual < 1 < strange
    serve = served(duet, both[0])
    for device, moved in zip(both, (False, True)):
        theta = serve(device)[0]
        np.testing.assert_allclose(theta, duet.generate(to_float(device[None])).detach(), atol=1e-5)
        assert (np.abs(theta).max() > 0.1) == moved


def test_every_parameter_of_the_generator_receives_a_gradient_and_the_model_none(
    model: SmallNet, images: torch.Tensor
) -> None:
    duet = make_duet(model, LAYERS, keep=True).train()
    logits = duet.personal(duet.generate(images[:8].reshape(2, 4, 1, 32, 32)), images[8:16])
    logits.square().sum().backward()
    for name, parameter in duet.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == parameter.requires_grad, name
    assert not any(parameter.requires_grad for parameter in duet.personal.module.parameters())


def test_training_leaves_a_kept_model_as_it_was(model: SmallNet) -> None:
    before = copy.deepcopy(model.state_dict())
    fleet = make_fleet(make_digits(100), SETTING, "train", 0)
    duet = train_duet(make_duet(model, LAYERS, keep=True), fleet, 1, 0)
    after = duet.personal.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_statistics_of_the_device_are_mixed_by_how_many_images_there_are(model: SmallNet, images: torch.Tensor) -> None:
    before, (conv, norm) = copy.deepcopy(model), model.stages()[0]
    value = conv(images[:4]).detach()
    own = with_statistics(model, images[:4], prior=12)
    # Four images beside twelve: a quarter of the way.
    expected = 0.75 * norm.running_mean + 0.25 * value.mean((0, 2, 3))
    assert torch.allclose(own.norm1.running_mean, expected, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), model.state_dict().values()))


def test_with_its_own_statistics_alone_a_model_does_what_it_does_in_training(
    model: SmallNet, images: torch.Tensor
) -> None:
    own = with_statistics(model, images, prior=0)
    expected = copy.deepcopy(model).train()(images)
    assert torch.allclose(own(images), expected, atol=1e-4)


def test_tent_lowers_entropy_and_changes_norms_alone(model: SmallNet, images: torch.Tensor) -> None:
    @torch.no_grad()
    def entropy(one: SmallNet) -> float:
        logits = one(images)
        return float(-(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean())

    start = with_statistics(model, images, 0)
    own = tent(model, images, Adaptation(prior=0, steps=10, rate=1e-2))
    assert entropy(own) < entropy(start)
    changed = {
        name for name, value in own.named_parameters() if not torch.equal(value, dict(model.named_parameters())[name])
    }
    assert changed == {f"norm{number}.{part}" for number in (1, 2, 3) for part in ("weight", "bias")}


def test_fine_tuning_learns_the_labels_and_leaves_the_model_alone(model: SmallNet) -> None:
    made = make_digits(120)
    images, labels = to_float(made.pixels), torch.from_numpy(made.labels)
    before = copy.deepcopy(model)
    own = finetune(model, images, labels, Adaptation(steps=96, rate=3e-3))
    loss = torch.nn.functional.cross_entropy
    # The last quarter is held back, and told better too.
    assert loss(own(images[:90]), labels[:90]) < 0.5 * loss(model(images[:90]), labels[:90])
    assert loss(own(images[90:]), labels[90:]) < loss(model(images[90:]), labels[90:])
    assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), model.state_dict().values()))


def test_fine_tuning_that_only_harms_is_given_up(model: SmallNet, images: torch.Tensor) -> None:
    # What the labels teach is wrong for those that are held back.
    labels = model(images).argmax(1)
    wrong = torch.cat([(labels[:18] + 1) % 10, labels[18:]])
    own = finetune(model, images, wrong, Adaptation(steps=24, rate=1e-2))
    assert all(torch.equal(a, b) for a, b in zip(own.state_dict().values(), model.state_dict().values()))


def test_the_worst_tenth_is_of_the_devices_that_are_drawn() -> None:
    value_U = np.arange(20) / 20
    once, only_last = np.ones((1, 20)), np.zeros((1, 20))
    only_last[0, -1] = 20
    # Of twenty devices the worst two: (0 + 1/20) / 2.
    assert worst_tenth(value_U, once)[0] == pytest.approx(1 / 40)
    assert worst_tenth(value_U, only_last)[0] == pytest.approx(19 / 20)
    assert mean_over_devices(value_U, once)[0] == pytest.approx(19 / 40)


def test_a_difference_that_is_the_same_everywhere_is_certain() -> None:
    value_U = np.random.default_rng(0).random(40)
    for measure in (mean_over_devices, worst_tenth):
        found, p = differ(value_U + 0.125, value_U, measure)
        assert (found.mean, found.low, found.high) == pytest.approx((0.125, 0.125, 0.125))
        assert p < 0.01


def test_a_cell_measures_every_method_and_the_report_shows_them() -> None:
    made = make_digits(600)
    cells = [run_cell(made, SETTING, seed, counts=(1, 4), labelled=(4,), as_served=False) for seed in range(1)]
    results = assemble(cells)
    assert [(table.part, table.devices, table.seeds) for table in results.tables] == [
        ("seen", 6, [0]),
        ("unseen", 6, [0]),
    ]
    table = results.tables[0]
    assert {row.method for row in table.rows} == {"base", "base-wide", "finetune", "batch-norm", "tent", "arm", "duet"}
    one = table.against(DUET, BASE, 4, ACCURACY)
    own, base = table.row(DUET, 4), table.row(BASE, 0)
    assert one is not None
    assert own is not None
    assert base is not None
    assert one.mean == pytest.approx(own.accuracy.mean - base.accuracy.mean)
    assert table.against(DUET, "tent", 4, WORST) is not None
    assert own.another is not None
    page = render(results, "Turned <digits>", {"seen": make_fleet(made, SETTING, "seen", 0)})
    assert "Turned &lt;digits&gt;" in page
    assert page.count("data:image/png") == 6
    for method in ("batch-norm, 4 images", "duet, 1 image"):
        assert f'<th scope="row">{method}</th>' in page
    assert "<script" not in page
    results.to_json()


@pytest.mark.slow
def test_what_no_generator_has_a_part_in_is_taken_from_before_if_base_is_as_it_was() -> None:
    def cell(before: Cell | None = None) -> Cell:
        return run_cell(make_digits(600), SETTING, 0, counts=(4,), labelled=(4,), as_served=False, before=before)

    def marked(one: Found, names: tuple[str, ...]) -> Found:
        return structs.replace(one, accuracy=[0.125] * 6) if one.method in names else one

    first = cell()
    every = ("base-wide", "arm", "duet", "batch-norm", "tent", "finetune")
    before = structs.replace(first, found=[marked(one, every) for one in first.found], plain=2.0)
    again = cell(before)
    assert {one.method for one in again.found if one.accuracy == [0.125] * 6} == {*every} - {"arm", "duet"}
    assert again.plain == 2
    anew = cell(structs.replace(before, found=[marked(one, (*every, "base")) for one in first.found]))
    assert (anew.found, anew.plain) == (first.found, first.plain)

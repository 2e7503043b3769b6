"""What devices do to images, and how fleets are made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from duetgen.vision import Setting, make_digits, make_fleet
from duetgen.vision.devices import SHIFTS, Shift, seen_by
from duetgen.vision.fleet import BAND, GIVEN, draw_images, draw_shifts, pools_of
from duetgen.vision.images import TEST, joined

DOT = np.zeros((1, 1, 32, 32), dtype=np.uint8)
DOT[0, 0, 4, 16] = 200


def test_no_shift_changes_nothing() -> None:
    assert (seen_by((), DOT, 0) == DOT).all()


@pytest.mark.parametrize("kind", [kind for kind in SHIFTS if kind != "rotation"])
def test_severity_zero_changes_nothing(kind: str) -> None:
    assert (seen_by((Shift(kind, 0.0),), DOT, 0) == DOT).all()


def test_a_quarter_turn_moves_the_top_to_the_left() -> None:
    turned = seen_by((Shift("rotation", 90.0),), DOT, 0)
    assert np.argwhere(turned[0, 0] > 100).tolist() == [[15, 4]]


def test_blur_keeps_the_light_and_spreads_it() -> None:
    blurred = seen_by((Shift("blur", 0.5),), np.roll(DOT, 12, axis=2), 0).astype(int)
    assert blurred.max() < 40
    assert abs(blurred.sum() - 200) < 40


def test_contrast_and_gamma_are_what_they_say() -> None:
    # 200/255 = 0.7843: half of the way to a tenth is 0.5 + 0.2843 / sqrt(10) = 0.5899, that is 150.4.
    assert seen_by((Shift("contrast", 0.5),), DOT, 0)[0, 0, 4, 16] == 150
    # 0.7843 ** 4 = 0.3784, that is 96.5; and 0.7843 ** (1/4) = 0.9411, that is 240.
    assert seen_by((Shift("gamma", 1.0),), DOT, 0)[0, 0, 4, 16] in (96, 97)
    assert seen_by((Shift("gamma", -1.0),), DOT, 0)[0, 0, 4, 16] == 240


def test_noise_is_of_its_seed() -> None:
    one, same, other = (seen_by((Shift("noise", 1.0),), DOT, seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_a_device_is_of_the_kinds_of_its_faults_or_of_its_domain_where_there_are_several() -> None:
    made = make_digits(200)
    cameras = make_fleet(made, Setting(name="c", world="camera", devices=(6, 4)), "train", 0)
    assert cameras.kinds() == [{shift.kind for shift in shifts} for shifts in cameras.shifts]
    styles = joined([made, replace(made, name="other"), replace(made, name="third")])
    setting = Setting(name="d", world="domain", left_out="third", devices=(4, 4))
    fleet = make_fleet(styles, setting, "train", 0)
    assert fleet.kinds() == [{"made digits"}, {"other"}] * 2
    some = fleet.taken(np.array([3, 0]))
    assert some.domains == ["other", "made digits"]
    assert some.shifts == [fleet.shifts[3], fleet.shifts[0]]
    assert (some.labels == fleet.labels[[3, 0]]).all()
    assert (some.pixels == fleet.pixels[[3, 0]]).all()


def test_angles_of_training_and_unseen_ones_never_share_a_band() -> None:
    setting = Setting(name="turned", world="rotation")
    random = np.random.default_rng(0)
    for part, odd in (("train", 0), ("valid", 0), ("seen", 0), ("unseen", 1)):
        angles = [draw_shifts(setting, part, random)[0].amount for _ in range(200)]  # type: ignore[arg-type]
        assert {int((angle + 180) // BAND) % 2 for angle in angles} == {odd}


def test_an_unseen_camera_has_a_fault_that_no_other_has() -> None:
    setting, random = Setting(name="cameras", world="camera"), np.random.default_rng(0)
    kinds = {
        part: {shift.kind for _ in range(50) for shift in draw_shifts(setting, part, random)}  # type: ignore[arg-type]
        for part in ("train", "seen", "unseen")
    }
    assert kinds["train"] == kinds["seen"] == {"noise", "blur", "contrast"}
    assert kinds["unseen"] == {"gamma"}


def test_parts_share_no_image_and_the_domain_left_out_is_the_unseen_one() -> None:
    images = joined([make_digits(80, seed=0), make_digits(40, seed=1)])
    names = tuple(f"scanner {number}" for number in range(2))
    images = type(images)(**{**images.__dict__, "domains": names})
    setting = Setting(name="scanners", world="domain", left_out="scanner 1")
    train, valid, seen, unseen = (
        np.concatenate(pools_of(images, setting, part))  # type: ignore[arg-type]
        for part in ("train", "valid", "seen", "unseen")
    )
    assert not set(train) & set(valid)
    assert set(images.domain[np.concatenate([train, valid, seen])]) == {0}
    assert (images.part[seen] == TEST).all()
    assert sorted(unseen) == list(range(80, 120))
    assert len(train) + len(valid) + len(seen) == 80


def test_a_fleet_is_of_its_seed() -> None:
    images = make_digits(60)
    setting = Setting(name="turned", world="rotation", devices=(3, 4), tested=(2, 5, 6))
    one, same, other = (make_fleet(images, setting, "train", seed) for seed in (0, 0, 1))
    assert one.pixels.shape == (3, 4, 1, 32, 32)
    assert (one.pixels == same.pixels).all()
    assert one.shifts == same.shifts != other.shifts
    assert make_fleet(images, setting, "valid", 0).labels.shape == (2, GIVEN + 6)
    assert make_fleet(images, setting, "seen", 0).labels.shape == (5, GIVEN + 6)


def test_what_a_device_is_given_is_not_what_it_is_measured_on() -> None:
    pool, random = np.arange(100, 140), np.random.default_rng(0)
    for given, count in ((GIVEN, GIVEN + 64), (0, 60), (30, 40)):
        drawn = draw_images(pool, count, given, random)
        assert drawn.shape == (count,)
        assert set(drawn.tolist()) <= set(pool.tolist())
        assert not set(drawn[:given].tolist()) & set(drawn[given:].tolist())


def test_made_digits_are_of_ten_classes_and_a_quarter_tests() -> None:
    images = make_digits(200)
    assert len(set(images.labels)) == 10
    assert int((images.part == TEST).sum()) == 50
    assert (make_digits(200).pixels == images.pixels).all()
    ones, eights = (images.pixels[images.labels == digit].mean() for digit in (1, 8))
    assert eights > 2 * ones

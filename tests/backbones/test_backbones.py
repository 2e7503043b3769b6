"""One test class for the interface, run on every backbone; then what is particular to each."""

import itertools

import pytest
import torch

from duetgen.backbones import BACKBONES, BackboneConfig, SASRec, backbone, windows
from duetgen.backbones.backbone import SequenceBackbone
from duetgen.backbones.din import DIN, ActivationUnit
from duetgen.backbones.gru4rec import GRU4Rec
from duetgen.backbones.sasrec import BLOCK, band, unband
from duetgen.core import GeneratorConfig, Theta
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender

V, L = 30, 4
CASES = [(name, layers) for name in BACKBONES for layers in (1, 2) if not (name == "din" and layers == 2)]


def make(name: str, layers: int = 1, method: str = "duet", **options: object) -> Recommender:
    torch.manual_seed(0)
    config = ModelConfig(
        name=name,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        backbone=BackboneConfig(width=8, window=L, layers=layers, heads=2, **options),  # type: ignore[arg-type]
        history=HistoryConfig(length=12, width=8, embedding_width=6),
        generator=GeneratorConfig(width=8, decoder_scale=0.1),
    )
    return Recommender(V, config).eval()


def window_of(events: list[int]) -> torch.Tensor:
    recent = events[-L:]
    return torch.tensor([recent + [0] * (L - len(recent))])


def test_windows_by_hand() -> None:
    assert windows(torch.tensor([[5, 6, 7, 8]]), 3)[0].tolist() == [[5, 0, 0], [5, 6, 0], [5, 6, 7], [6, 7, 8]]


def test_windows_longer_than_the_sequence() -> None:
    assert windows(torch.tensor([[5, 6]]), 4)[0].tolist() == [[5, 0, 0, 0], [5, 6, 0, 0]]


@pytest.mark.parametrize(("name", "layers"), CASES)
class TestBackbone:
    def test_every_position_is_exactly_what_a_device_runs(self, name: str, layers: int) -> None:
        model = make(name, layers)
        for count in (L - 2, L, 11):
            self.check_every_position(model, torch.randint(1, V, (3, count)))

    def test_sequences_of_several_blocks(self, name: str, layers: int) -> None:
        self.check_every_position(make(name, layers), torch.randint(1, V, (3, 2 * BLOCK + 3)))

    def check_every_position(self, model: Recommender, events: torch.Tensor) -> None:
        contexts = model.backbone.contexts(events)
        for row in range(3):
            for t in range(events.shape[1]):
                alone = model.backbone.context(window_of(events[row, : t + 1].tolist()))[0]
                # DIN's context is the window: with a short sequence it holds less padding in training.
                length = contexts.shape[-1]
                torch.testing.assert_close(contexts[row, t], alone[:length], atol=1e-5, rtol=1e-5)
                assert not alone[length:].any()

    def test_padding_at_the_end_of_a_sequence_changes_nothing_before_it(self, name: str, layers: int) -> None:
        model = make(name, layers)
        events = torch.randint(1, V, (2, 7))
        padded = torch.cat([events, torch.zeros(2, 5, dtype=torch.long)], dim=1)
        torch.testing.assert_close(model.backbone.contexts(padded)[:, :7], model.backbone.contexts(events))

    def test_padding_of_a_window_changes_no_score(self, name: str, layers: int) -> None:
        model = make(name, layers)
        candidates = torch.arange(1, V)[None]
        torch.testing.assert_close(
            model.score(torch.tensor([[3, 9, 0, 0]]), candidates), model.score(torch.tensor([[3, 9]]), candidates)
        )

    def test_a_batch_scores_as_its_rows_do(self, name: str, layers: int) -> None:
        model = make(name, layers)
        window = torch.cat([window_of([3, 9, 4, 1, 7]), window_of([2]), window_of([])])
        candidates, theta = torch.randint(1, V, (3, 6)), Theta(torch.randn(3, model.backbone.head.layout.size) * 0.1)
        together = model.score(window, candidates, theta)
        for row in range(3):
            alone = model.score(window[row : row + 1], candidates[row : row + 1], theta[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)

    def test_catalogue_and_candidates_agree(self, name: str, layers: int) -> None:
        model = make(name, layers)
        window, theta = window_of([3, 9, 4, 1, 7]), Theta(torch.randn(1, model.backbone.head.layout.size) * 0.1)
        scores = model.score_catalogue(window, theta)
        assert scores.shape == (1, V)
        assert scores[0, 0] == -torch.inf
        torch.testing.assert_close(scores[:, 1:], model.score(window, torch.arange(1, V)[None], theta))

    def test_only_the_window_matters(self, name: str, layers: int) -> None:
        model = make(name, layers)
        candidates = torch.arange(1, V)[None]
        old, new = window_of([1, 2, 3, 4, 5, 6]), window_of([9, 9, 3, 4, 5, 6])
        assert torch.equal(model.score(old, candidates), model.score(new, candidates))

    def test_the_order_of_the_window_matters(self, name: str, layers: int) -> None:
        model = make(name, layers)
        with torch.no_grad():
            for parameter in model.backbone.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        candidates = torch.arange(1, V)[None]
        turned = model.score(window_of([6, 5, 4, 3]), candidates)
        assert not torch.allclose(model.score(window_of([3, 4, 5, 6]), candidates), turned)

    def test_theta_zero_is_the_global_model_bit_for_bit(self, name: str, layers: int) -> None:
        model = make(name, layers)
        window, candidates = window_of([3, 9]), torch.arange(1, V)[None]
        zero = Theta(torch.zeros(1, model.backbone.head.layout.size))
        assert torch.equal(model.score(window, candidates, zero), model.score(window, candidates))

    def test_theta_changes_the_scores_and_differs_by_history(self, name: str, layers: int) -> None:
        model = make(name, layers)
        one, two = model.generate(torch.tensor([[1, 2, 3]])), model.generate(torch.tensor([[7, 8, 9]]))
        assert one.weights_BP is not None
        assert two.weights_BP is not None
        assert not torch.allclose(one.weights_BP, two.weights_BP)
        window, candidates = window_of([3, 9]), torch.arange(1, V)[None]
        assert not torch.allclose(model.score(window, candidates, one), model.score(window, candidates, two))

    def test_an_empty_window_scores_finitely(self, name: str, layers: int) -> None:
        model = make(name, layers)
        assert torch.isfinite(model.score(window_of([]), torch.arange(1, V)[None])).all()

    def test_every_parameter_learns(self, name: str, layers: int) -> None:
        model = make(name, layers).train()
        window = torch.cat([window_of([3, 9, 4, 1, 7]), window_of([2, 5])])
        scores = model(window, torch.randint(1, V, (2, 6)), history_BL=torch.tensor([[3, 9, 4], [2, 5, 0]]))
        scores.square().sum().backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, key
            # A softmax is blind to what all keys have in common: only rounding gives that a gradient.
            assert parameter.grad.abs().sum() > 0 or key.endswith("key.bias"), key

    def test_the_replacing_form_starts_from_the_global_model(self, name: str, layers: int) -> None:
        torch.manual_seed(0)
        config = ModelConfig(
            name=name,  # type: ignore[arg-type]
            backbone=BackboneConfig(width=8, window=L, layers=layers, residual=False),
            generator=GeneratorConfig(decoder_scale=1e-6),
        )
        model = Recommender(V, config).eval()
        window, candidates = window_of([3, 9]), torch.arange(1, V)[None]
        own = model(window, candidates, history_BL=torch.tensor([[1, 2, 3]]))
        torch.testing.assert_close(own, model(window, candidates), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("name", "size"), [("sasrec", 2112), ("gru4rec", 2112), ("din", 16641)])
def test_theta_has_the_size_of_the_paper_at_width_32(name: str, size: int) -> None:
    config = ModelConfig(name=name, backbone=BackboneConfig(width=32))  # type: ignore[arg-type]
    assert Recommender(V, config).backbone.head.layout.size == size


def test_a_base_model_has_no_generator() -> None:
    model = make("sasrec", method="base")
    assert not model.personal
    assert model.generator_history == 0
    with pytest.raises(ValueError, match="no generator"):
        model.generate(torch.tensor([[1]]))


def test_the_generator_may_read_the_device_models_embedding() -> None:
    model = Recommender(V, ModelConfig(history=HistoryConfig(share_embedding=True)))
    assert model.generator is not None
    assert model.generator.encoder.embed is model.backbone.item_embedding


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_training_scores_are_the_catalogues_scores_at_trained_positions(name: str) -> None:
    model = make(name)
    events, trained = torch.randint(1, V, (2, 5)), torch.tensor([[True] * 5, [True, False, True, False, False]])
    items = torch.arange(V)
    contexts = model.backbone.contexts(events)
    assert isinstance(model.backbone, SequenceBackbone)
    few = model.backbone.score_trained(contexts, trained.nonzero(as_tuple=True), items, None)
    torch.testing.assert_close(few, model.backbone.score_shared(contexts, items, None)[trained])


@pytest.mark.parametrize("head", [None, "full", "scale", "concat", "window-prefix"])
def test_a_catalogue_in_pieces_has_the_scores_of_its_items(head: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("din", head=head or "auto")
    window = torch.cat([window_of([3, 9, 4, 1, 7]), window_of([2]), window_of([])])
    theta = None if head is None else Theta(torch.randn(3, model.backbone.layout.size) * 0.1)
    each = model.score(window, torch.arange(V).expand(3, V), theta)[:, 1:]
    torch.testing.assert_close(model.score_catalogue(window, theta)[:, 1:], each)
    if theta is not None and theta.weights_BP is not None:
        theta.weights_BP[1] = 0
        assert torch.equal(model.score_catalogue(window, theta)[1], model.score_catalogue(window)[1])
        each = model.score(window, torch.arange(V).expand(3, V), theta)[:, 1:]
    monkeypatch.setattr(backbone, "CACHED_SCORES", 21)
    monkeypatch.setattr(backbone, "CACHED_ITEMS", 4)
    torch.testing.assert_close(model.score_catalogue(window, theta)[:, 1:], each)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        SASRec(V, BackboneConfig(width=8, heads=3))


def test_a_band_by_hand() -> None:
    square = torch.arange(12.0).view(3, 4)
    assert band(square, 2).tolist() == [[0, 1], [5, 6], [10, 11]]
    assert unband(band(square, 2), 4).tolist() == [[0, 1, 0, 0], [0, 5, 6, 0], [0, 0, 10, 11]]


@pytest.mark.parametrize("kind", [SASRec, GRU4Rec])
def test_a_long_window_is_trained_exactly_too(kind: type[SequenceBackbone]) -> None:
    torch.manual_seed(0)
    length = BLOCK + 18
    backbone = kind(V, BackboneConfig(width=8, window=length, dropout=0.0))
    events = torch.randint(2, V, (2, 2 * length + 3))
    contexts = backbone.contexts(events)
    for t in range(events.shape[1]):
        seen = backbone.context(events[:, max(0, t + 1 - length) : t + 1])
        torch.testing.assert_close(contexts[:, t], seen, atol=1e-5, rtol=1e-5)


def by_hand(unit: ActivationUnit, keys: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """The weights of keys [B, L, D] for candidates [B, C, D], one after the other."""
    found = []
    for row, candidate, key in itertools.product(*map(range, (len(keys), candidates.shape[1], keys.shape[1]))):
        k, c = keys[row, key], candidates[row, candidate]
        hidden = unit.of_key(k) + unit.of_candidate(c) + unit.of_product @ (k * c)
        found.append(unit.output(torch.nn.functional.silu(hidden)))
    return torch.cat(found).view(len(keys), candidates.shape[1], keys.shape[1])


@pytest.mark.parametrize(
    ("way", "count", "length", "hidden"), [("by_pair", 4, 5, 8), ("by_key", 40, 2, 3), ("by_candidate", 4, 20, 3)]
)
def test_din_attends_alike_whatever_comes_first(
    way: str, count: int, length: int, hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    unit = ActivationUnit(width=8, hidden=hidden)
    keys, candidates = torch.randn(2, length, 8), torch.randn(2, count, 8)
    expected = by_hand(unit, keys, candidates)
    torch.testing.assert_close(getattr(unit, way)(keys, candidates), expected)
    # The one that forward takes.
    monkeypatch.setattr(ActivationUnit, way, lambda *_: "taken")
    assert unit(keys, candidates) == "taken"


def test_din_drops_the_same_values_of_all_candidates_of_a_position() -> None:
    model = make("din", dropout=0.5).train().backbone
    assert isinstance(model, DIN)
    windows = torch.tensor([[3, 9, 4, 1]] * 2)
    alike = model.features(windows, model.item_embedding(torch.full((2, 3), 7)))
    assert torch.equal(alike, alike[:, :1].expand_as(alike))
    assert not torch.equal(alike[0], alike[1])
    shared = model.attend(windows, model.item_embedding(torch.full((3,), 7))).candidate_CD
    assert not torch.equal(shared[0], shared[1])


@pytest.mark.parametrize("rows", [(), (2,), (2, 3)])
def test_din_attends_alike_to_candidates_that_rows_share(rows: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    unit = ActivationUnit(width=8, hidden=3)
    keys, candidates = torch.randn(*rows, 5, 8), torch.randn(4, 8)
    found = unit(keys, candidates)
    assert found.shape == (*rows, 4, 5)
    flat = keys.view(-1, 5, 8)
    torch.testing.assert_close(found.view(-1, 4, 5), by_hand(unit, flat, candidates.expand(len(flat), 4, 8)))

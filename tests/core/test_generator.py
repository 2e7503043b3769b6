import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.making import personal
from torch import nn

from duetgen.core import (
    ENCODERS,
    AttentionEncoder,
    AttentionPoolEncoder,
    AverageEncoder,
    Duet,
    Encoder,
    Features,
    GeneratorConfig,
    GRUEncoder,
    ParameterGenerator,
    PooledEncoder,
    SequenceEncoder,
    StableWeightAdapter,
)
from duetgen.core.duet import joint_loss
from duetgen.core.encoders.encoder import InvalidArgumentError
from duetgen.core.generator import LayerGenerator, ViewProjection

KINDS: list[type[Encoder]] = list(ENCODERS.values())
SEQUENCES = [kind for kind in KINDS if issubclass(kind, SequenceEncoder)]
SETS = [kind for kind in KINDS if kind not in SEQUENCES]


def make_encoder(kind: type[Encoder] = GRUEncoder, event_dropout: float = 0.0) -> Encoder:
    torch.manual_seed(0)
    return kind(nn.Embedding(9, 5, padding_idx=0), 5, 8, event_dropout=event_dropout)


def make_duet(residual: bool = True, **config: float) -> Duet:
    torch.manual_seed(0)
    model = personal(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), "full", "0,2", residual=residual)
    return Duet(model, make_encoder(), GeneratorConfig(width=7, **config))  # type: ignore[arg-type]


HISTORY = torch.tensor([[3, 4, 5, 0, 0], [1, 2, 3, 4, 5], [6, 0, 0, 0, 0]])


@pytest.mark.parametrize("kind", KINDS)
class TestEncoder:
    def test_padding_does_not_change_the_vector(self, kind: type[Encoder]) -> None:
        encoder = make_encoder(kind)
        for row in HISTORY:
            alone = encoder(row[row != 0][None])
            torch.testing.assert_close(encoder(row[None]), alone)
            torch.testing.assert_close(encoder(torch.cat([row, torch.zeros(40, dtype=torch.long)])[None]), alone)

    def test_an_empty_history_gives_zeros(self, kind: type[Encoder]) -> None:
        encoder = make_encoder(kind)
        assert encoder(torch.zeros(2, 5, dtype=torch.long)).tolist() == [[0.0] * encoder.width] * 2

    def test_no_history_at_all_is_an_empty_one(self, kind: type[Encoder]) -> None:
        encoder = make_encoder(kind)
        assert encoder(torch.zeros(2, 0, dtype=torch.long)).tolist() == [[0.0] * encoder.width] * 2
        assert encoder(torch.zeros(0, 5, dtype=torch.long)).shape == (0, encoder.width)

    def test_feature_vectors_are_read_too(self, kind: type[Encoder]) -> None:
        encoder = kind(nn.Linear(2, 5), 5, 8)
        features = torch.randn(1, 3, 2)
        padded = torch.cat([features, torch.zeros(1, 4, 2)], dim=1)
        torch.testing.assert_close(encoder(padded), encoder(features))

    @pytest.mark.parametrize(("shape", "width"), [((2, 3), 4), ((2, 5, 3), 5), ((2, 5, 1, 3), 4)])
    def test_a_history_of_other_dimensions_or_widths_is_refused(
        self, kind: type[Encoder], shape: tuple[int, ...], width: int
    ) -> None:
        encoder = kind(nn.Linear(3, width), 4, 8)
        with pytest.raises(InvalidArgumentError, match=rf"of a history of \[2, .*{width}\]"):
            encoder(torch.ones(shape))

    def test_hidden_events_are_hidden_while_training_only(self, kind: type[Encoder]) -> None:
        encoder = make_encoder(kind, event_dropout=0.5)
        kept = encoder.embedded(HISTORY).abs().sum(-1) > 0
        assert 0 < int(kept[HISTORY > 0].sum()) < int((HISTORY > 0).sum())
        encoder.eval()
        assert torch.equal(encoder(HISTORY), make_encoder(kind).eval()(HISTORY))

    def test_a_mask_tells_where_zeros_do_not(self, kind: type[Encoder]) -> None:
        encoder = kind(nn.Linear(2, 5), 5, 8)
        features = torch.randn(2, 3, 2)
        features[0, 0] = 0.0
        real = torch.tensor([[True, True, False], [False, False, False]])
        found = encoder(features, real)
        torch.testing.assert_close(found[0], encoder(features[:1, :2], real[:1, :2])[0])
        assert found[1].tolist() == [0.0] * encoder.width

    def test_images_are_read_by_a_model_that_is_kept(self, kind: type[Encoder]) -> None:
        model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        encoder = kind(Features(model), 5, 8).train()
        images = torch.randn(2, 3, 1, 4, 4)
        images[1, 1:] = 0.0
        found = encoder(images)
        torch.testing.assert_close(found[1], encoder(images[1:, :1])[0])
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("kind", SEQUENCES)
def test_states_are_the_vector_after_each_event(kind: type[Encoder]) -> None:
    encoder = make_encoder(kind)
    assert isinstance(encoder, SequenceEncoder)
    states = encoder.states(HISTORY)
    for length in range(1, 6):
        torch.testing.assert_close(states[1, length - 1], encoder(HISTORY[1:2, :length])[0])


@pytest.mark.parametrize("kind", SEQUENCES)
@pytest.mark.parametrize("zeros", [0, 1, slice(0, 2)])
def test_zeros_before_the_newest_payload_hide_nothing(kind: type[Encoder], zeros: int | slice) -> None:
    encoder = kind(nn.Linear(2, 5), 5, 8)
    assert isinstance(encoder, SequenceEncoder)
    features = torch.randn(1, 3, 2)
    features[:, zeros] = 0.0
    torch.testing.assert_close(encoder(features), encoder.states(features)[:, 2])
    assert encoder.lengths(encoder.real(torch.cat([features, torch.zeros(1, 4, 2)], dim=1))).tolist() == [3]


@pytest.mark.parametrize("kind", SETS)
def test_a_set_has_no_order(kind: type[Encoder]) -> None:
    encoder = make_encoder(kind)
    torch.testing.assert_close(encoder(HISTORY.flip(1)), encoder(HISTORY))


def test_pooled_by_hand() -> None:
    encoder = PooledEncoder(nn.Identity(), 1)
    # The mean of 1, 2 and 6 is 3, their variance (4 + 1 + 9) / 3.
    history = torch.tensor([[[1.0], [0.0], [2.0], [6.0]]])
    torch.testing.assert_close(encoder(history), torch.tensor([[3.0, (14 / 3) ** 0.5]]))


def test_one_attention_looks_back_less_far_by_hand() -> None:
    encoder = AttentionEncoder(nn.Identity(), 1, 2)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
        encoder.value.weight.fill_(1.0)
        encoder.output.weight.copy_(torch.eye(2))
        encoder.slope_H.copy_(torch.tensor([math.log(2), 0.0]))
    # The first head halves what is an event older, the second takes the plain mean.
    history = torch.tensor([[[1.0], [4.0], [0.0]]])
    torch.testing.assert_close(encoder(history), torch.tensor([[(4 + 1 / 2) / (3 / 2), 5 / 2]]))


@pytest.mark.parametrize(("kind", "width"), [(AttentionEncoder, 7), (AttentionPoolEncoder, 6)])
def test_a_width_that_does_not_divide_is_refused(kind: type[Encoder], width: int) -> None:
    with pytest.raises(ValueError, match="does not divide"):
        kind(nn.Identity(), 1, width)


def test_averages_by_hand() -> None:
    encoder = AverageEncoder(nn.Identity(), 1, half_lives=(1.0, float("inf")))
    assert (encoder.width, encoder.views) == (2, 2)
    # Newest 4, then 2, then 1: weights 1, 1/2, 1/4 make (4 + 1 + 1/4) / (7/4) = 3; the mean is 7/3.
    history = torch.tensor([[[1.0], [2.0], [4.0], [0.0]]])
    torch.testing.assert_close(encoder(history), torch.tensor([[3.0, 7 / 3]]))
    torch.testing.assert_close(encoder.states(history)[0, 1], torch.tensor([5 / 3, 3 / 2]))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 400), st.lists(st.sampled_from([0.5, 2.0, 10.0, float("inf")]), min_size=1, max_size=3, unique=True)
)
def test_averages_after_each_event_are_those_of_a_plain_loop(length: int, half_lives: list[float]) -> None:
    encoder = AverageEncoder(nn.Identity(), 1, half_lives=tuple(half_lives))
    history = torch.randn(1, length, 1, generator=torch.Generator().manual_seed(length))
    expected = torch.zeros(length, len(half_lives))
    for place, half_life in enumerate(half_lives):
        total = weight = 0.0
        for step, value in enumerate(history.flatten().tolist()):
            total, weight = total * 2 ** (-1 / half_life) + value, weight * 2 ** (-1 / half_life) + 1
            expected[step, place] = total / weight
    torch.testing.assert_close(encoder.states(history)[0], expected)


class TestStableWeightAdapter:
    def test_weights_by_hand(self) -> None:
        adapter = StableWeightAdapter(1)
        with torch.no_grad():
            adapter.transform.fill_(1.0)
        # M = [0, 1]: S = softmax of [[0, 0], [0, 1]] by rows; w is the mean of its columns.
        e = math.e
        expected = [(1 / 2 + 1 / (1 + e)) / 2, (1 / 2 + e / (1 + e)) / 2]
        torch.testing.assert_close(adapter.weights(torch.tensor([[0.0], [1.0]])), torch.tensor(expected))
        torch.testing.assert_close(adapter(torch.tensor([[0.0], [1.0]])), torch.tensor([expected[1]]))

    def test_weights_sum_to_one_for_any_leading_dimensions(self) -> None:
        weights = StableWeightAdapter(5).weights(torch.randn(2, 3, 4, 5))
        assert weights.shape == (2, 3, 4)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))

    def test_equal_candidates_weigh_the_same(self) -> None:
        weights = StableWeightAdapter(5).weights(torch.randn(1, 5).expand(4, 5))
        torch.testing.assert_close(weights, torch.full((4,), 1 / 4))

    def test_blending_embeddings_is_blending_parameters(self) -> None:
        layer = LayerGenerator(6, 1, 11, GeneratorConfig(width=7, candidates=4, decoder_scale=1.0))
        vector = torch.randn(3, 6)
        candidates = layer.candidates(vector)
        assert layer.stabiliser is not None
        parameters = layer.decoder(candidates)
        blended = (layer.stabiliser.weights(candidates)[..., None] * parameters).sum(-2)
        torch.testing.assert_close(layer(vector), blended)

    def test_one_candidate_switches_it_off(self) -> None:
        layer = LayerGenerator(6, 3, 11, GeneratorConfig(width=7, candidates=1))
        assert layer.stabiliser is None
        assert layer.candidates(torch.randn(5, 6)).shape == (5, 1, 7)

    def test_a_generator_of_one_view_has_one_candidate_unless_told_otherwise(self) -> None:
        assert LayerGenerator(6, 1, 11, GeneratorConfig()).count == 1

    @pytest.mark.parametrize(("candidates", "count"), [(0, 3), (3, 3), (6, 6)])
    def test_each_candidate_reads_one_view_alone(self, candidates: int, count: int) -> None:
        layer = LayerGenerator(6, 3, 11, GeneratorConfig(width=7, candidates=candidates))
        vector = torch.randn(1, 6)
        moved = vector.clone()
        moved[0, 2:4] += 1  # the second of three views
        before, after = layer.candidates(vector)[0], layer.candidates(moved)[0]
        assert before.shape == (count, 7)
        changed = ~torch.isclose(before, after).all(-1)
        each = count // 3
        assert changed.tolist() == [False] * each + [True] * each + [False] * each

    def test_candidates_that_the_views_do_not_share_evenly_are_refused(self) -> None:
        with pytest.raises(ValueError, match="4 candidate parameter sets are not as many for each of 3 views"):
            LayerGenerator(6, 3, 11, GeneratorConfig(candidates=4))
        with pytest.raises(ValueError, match="does not divide"):
            LayerGenerator(7, 3, 11, GeneratorConfig())

    def test_views_are_mapped_by_hand(self) -> None:
        projection = ViewProjection(2, 2, 1)
        with torch.no_grad():
            projection.weight.copy_(torch.tensor([[[2.0]], [[3.0]]]))
            projection.bias.copy_(torch.tensor([10.0, 20.0]))
        found = projection(torch.tensor([[[1.0, 1.0], [5.0, 7.0]]]))
        assert found.tolist() == [[[[12.0], [23.0]], [[20.0], [41.0]]]]


class TestGenerator:
    @pytest.mark.parametrize("candidates", [1, 4])
    @pytest.mark.parametrize("residual", [True, False])
    def test_every_parameter_receives_a_gradient_from_the_first_step(self, candidates: int, residual: bool) -> None:
        duet = make_duet(residual, candidates=candidates)
        duet.loss(lambda output: output.square().mean(), HISTORY, torch.randn(3, 3)).backward()
        for name, parameter in duet.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    def test_every_parameter_is_in_the_state_dict_and_survives_a_reload(self) -> None:
        duet, other = make_duet(candidates=3), make_duet(candidates=3)
        with torch.no_grad():
            for parameter in duet.parameters():
                parameter.add_(torch.randn_like(parameter))
        assert {name for name, _ in duet.named_parameters()} == set(duet.state_dict())
        other.load_state_dict(duet.state_dict())
        x = torch.randn(3, 3)
        assert torch.equal(duet(HISTORY, x), other(HISTORY, x))

    def test_training_starts_from_the_global_model(self) -> None:
        duet, x = make_duet(), torch.randn(3, 3)
        assert duet.generate(HISTORY).abs().max() < 0.01
        torch.testing.assert_close(duet(HISTORY, x), duet(None, x), atol=0.02, rtol=0)

    def test_the_replacing_form_starts_from_the_global_model_too(self) -> None:
        duet, x = make_duet(residual=False), torch.randn(3, 3)
        torch.testing.assert_close(duet(HISTORY, x), duet(None, x), atol=0.02, rtol=0)

    def test_theta_per_position_is_theta_of_each_prefix(self) -> None:
        duet = make_duet(decoder_scale=1.0)
        generator = duet.generator
        assert isinstance(generator, ParameterGenerator)
        assert isinstance(generator.encoder, SequenceEncoder)
        every = generator.decode(generator.encoder.states(HISTORY[1:2]))
        for length in range(1, 6):
            torch.testing.assert_close(every[0, length - 1], generator(HISTORY[1:2, :length])[0])


def test_joint_loss_adds_the_weighted_fallback() -> None:
    total, personal, fallback = joint_loss(lambda t: torch.tensor(5.0 if t is None else 2.0), torch.zeros(1), 0.5)
    assert (float(total), float(personal)) == (4.5, 2.0)
    assert fallback is not None
    assert float(fallback) == 5.0


def test_joint_loss_without_weight_leaves_the_fallback_out() -> None:
    seen = []
    total, _, fallback = joint_loss(lambda t: seen.append(t) or torch.tensor(2.0), torch.zeros(1), 0.0)  # type: ignore[func-returns-value]
    assert float(total) == 2.0
    assert fallback is None
    assert len(seen) == 1


def test_a_duet_learns_to_be_personal_where_the_global_model_cannot() -> None:
    """Two kinds of devices want opposite outputs for the same input; only their histories tell them apart."""
    torch.manual_seed(0)
    model = personal(nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)), "full", "0,2")
    duet = Duet(model, make_encoder(), weight=0.5)
    history = torch.tensor([[1, 2, 1], [7, 8, 7]]).repeat(16, 1)
    x = torch.linspace(-1, 1, 32)[:, None]
    target = torch.where(history[:, :1] == 1, x, -x)
    optimiser = torch.optim.Adam(duet.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        duet.loss(lambda output: (output - target).square().mean(), history, x).backward()
        optimiser.step()
    spread = target.square().mean()
    assert (duet(history, x) - target).square().mean() < 0.1 * spread
    assert (duet(None, x) - target).square().mean() > 0.8 * spread
    assert (duet(history.flip(0), x) - target).square().mean() > 2 * spread


class TestLowRankDecoder:
    def test_it_has_the_rank_and_fewer_parameters(self) -> None:
        full, low = (LayerGenerator(6, 1, 100, GeneratorConfig(width=8, decoder_rank=rank)) for rank in (0, 2))
        assert low.narrow is not None
        assert torch.linalg.matrix_rank(low.decoder.weight @ low.narrow.weight) == 2
        assert sum(p.numel() for p in low.parameters()) < sum(p.numel() for p in full.parameters()) / 2
        theta = low(torch.randn(50, 6)) - low.decoder.bias
        assert torch.linalg.matrix_rank(theta, rtol=1e-4) == 2

    def test_theta_starts_at_the_scale_that_was_asked_for(self) -> None:
        torch.manual_seed(0)
        layer = LayerGenerator(32, 1, 5000, GeneratorConfig(decoder_rank=16, decoder_scale=0.1))
        assert 0.03 < float(layer(3 * torch.randn(20, 32)).detach().std()) < 0.3

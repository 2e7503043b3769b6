"""Fine-tuning of many devices at once against one after the other, and against the plain loss."""

import copy

import pytest
import torch
from torch import Tensor, nn

from duetgen.backbones import BackboneConfig
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender
from duetgen.training.config import FineTuneConfig
from duetgen.training.copies import Copies, UnrolledGRU, WholeCopies
from duetgen.training.defaults import fill_in_finetune
from duetgen.training.drawn import Drawn, query_gradient
from duetgen.training.finetune import FineTuned, finetune_alone
from duetgen.training.objectives import NegativeSampler, sampled_softmax

V = 30
HISTORY = torch.tensor(
    [
        [3, 9, 4, 17, 3, 9, 4, 17, 3, 9],
        [5, 6, 7, 8, 0, 0, 0, 0, 0, 0],
        [2, 1, 2, 1, 2, 29, 0, 0, 0, 0],
        [11, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
)
CASES = [(name, scope) for name in ("sasrec", "gru4rec", "din") for scope in ("head", "whole")]


def make(name: str = "sasrec", scope: str = "head", normalised: bool = True, **options: object) -> FineTuned:
    torch.manual_seed(0)
    base = Recommender(
        V,
        ModelConfig(
            name=name,  # type: ignore[arg-type]
            method="base",
            normalised=normalised,
            backbone=BackboneConfig(width=8, window=4, dropout=0.3),
            history=HistoryConfig(length=10),
        ),
    ).eval()
    settings = {"scope": scope, "steps": 4, "learning_rate": 0.02, "negatives": 12} | options
    # In double, so that Adam's division by the size of a gradient does not make rounding visible.
    chosen = FineTuneConfig(**settings)  # type: ignore[arg-type]
    return FineTuned(base.double(), torch.arange(V), chosen, length=10).double().eval()


def copy_of(backbone: nn.Module, scope: str) -> Tensor:
    names = [n for n, _ in backbone.named_parameters() if n.startswith("head.") or scope == "whole"]
    parameters = dict(backbone.named_parameters())
    return torch.cat([parameters[n].detach().flatten() for n in names if n != "item_embedding.weight"])


@pytest.mark.parametrize(("name", "scope"), CASES)
class TestFineTuned:
    @pytest.mark.parametrize("normalised", [True, False])
    @pytest.mark.parametrize("cached", [True, False])
    def test_all_at_once_equals_one_device_after_the_other(
        self, name: str, scope: str, normalised: bool, cached: bool
    ) -> None:
        model = make(name, scope, normalised)
        theta = model.generate(HISTORY)
        for row in range(3):
            history = HISTORY[row][HISTORY[row] > 0]
            alone = finetune_alone(model, history, cached=cached and scope == "head")
            own = model.copies.start_P + theta[row]
            torch.testing.assert_close(own, copy_of(alone, scope), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(model.generate(history[None])[0], theta[row], atol=1e-5, rtol=1e-5)

    def test_it_lowers_the_loss_on_the_devices_own_history(self, name: str, scope: str) -> None:
        model = make(name, scope)
        theta = model.generate(HISTORY)
        before, after = (model.history_losses(HISTORY[:3], own) for own in (torch.zeros_like(theta[:3]), theta[:3]))
        assert (after < before).all()
        assert (after[0] < model.history_losses(HISTORY[:1], theta[1:2])).all()

    def test_nothing_to_learn_from_leaves_the_global_model(self, name: str, scope: str) -> None:
        assert not make(name, scope).generate(HISTORY)[3:].any()

    def test_theta_zero_is_the_global_model(self, name: str, scope: str) -> None:
        model, window = make(name, scope), HISTORY[:3, :4]
        zero = torch.zeros(3, len(model.copies.start_P), dtype=torch.float64)
        candidates = torch.arange(1, V).expand(3, -1)
        torch.testing.assert_close(model.score(window, candidates, zero), model.score(window, candidates))
        torch.testing.assert_close(model.score_catalogue(window, zero), model.base.score_catalogue(window))

    def test_scores_are_those_of_the_devices_own_model(self, name: str, scope: str) -> None:
        model = make(name, scope)
        history = HISTORY[1:2, :4]
        candidates, theta = torch.arange(1, V)[None], model.generate(history)
        alone = copy.deepcopy(model.base)
        backbone = finetune_alone(model, history[0])
        assert isinstance(backbone, type(alone.backbone))
        alone.backbone = backbone
        scores = alone.score(history, candidates)
        assert not torch.allclose(scores, model.score(history, candidates))
        torch.testing.assert_close(model.score(history, candidates, theta), scores.detach(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.score_catalogue(history, theta)[:, 1:], scores.detach(), atol=1e-5, rtol=1e-5)

    def test_it_runs_while_measuring_and_leaves_the_global_model_alone(self, name: str, scope: str) -> None:
        model = make(name, scope)
        before = {key: tensor.clone() for key, tensor in model.base.state_dict().items()}
        with torch.inference_mode():
            measured = model.generate(HISTORY.clone())
        assert torch.equal(measured, model.generate(HISTORY))
        assert all(torch.equal(before[key], tensor) for key, tensor in model.base.state_dict().items())

    def test_its_parameters_are_counted_once(self, name: str, scope: str) -> None:
        model = make(name, scope)
        assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in model.base.parameters())


def test_all_but_the_item_embedding_is_copied_whole() -> None:
    model = make("sasrec", "whole")
    assert isinstance(model.copies, WholeCopies)
    own = sum(p.numel() for p in model.base.backbone.parameters()) - V * 8
    assert model.copies.layout.size == own == len(model.copies.start_P)


def test_losses_are_those_of_the_sampled_softmax() -> None:
    model = make()
    sampler = NegativeSampler(torch.arange(V), power=0.5)
    drawn = sampler.draw((12,), torch.Generator().manual_seed(0))
    positive, shared, target = torch.randn(1, 5), torch.randn(V), torch.tensor([[3, 9, 2, 28, 7]])
    expected = sampled_softmax(positive[0], shared[drawn].expand(5, -1), target[0], drawn, sampler.log_share_V)
    once = Drawn.of(sampler, 12, torch.Generator().manual_seed(0))
    losses = model.losses(positive, shared[once.items_M].expand(1, 5, -1), target, once)
    torch.testing.assert_close(losses[0], expected)


def test_the_gradient_without_a_graph_is_that_of_autograd() -> None:
    model = make()
    sampler = NegativeSampler(torch.ones(V), power=0.0)
    drawn = Drawn.of(sampler, 40, torch.Generator().manual_seed(1))
    assert drawn.correction_M.isinf().any()  # Drawn with replacement from 28: some are there twice.
    table, target = torch.randn(V, 8), torch.randint(2, V, (1, 3000))
    query = torch.randn(1, 3000, 8, requires_grad=True)
    positive, shared = (query * table[target]).sum(-1), query @ table[drawn.items_M].T
    loss = model.losses(positive, shared, target, drawn).sum()
    loss.backward()
    weight = model.shares(target).flatten()
    with torch.no_grad():
        rows, grad = query_gradient(query[0], table[target[0]], table[drawn.items_M], drawn, target.flatten(), weight)
    torch.testing.assert_close((rows * weight).sum(), loss.detach())
    assert query.grad is not None
    torch.testing.assert_close(grad, query.grad[0])


@pytest.mark.parametrize("layers", [1, 2])
def test_the_unrolled_gru_is_the_gru(layers: int) -> None:
    gru = nn.GRU(5, 6, num_layers=layers, batch_first=True)
    unrolled = copy.deepcopy(gru)
    unrolled.__class__ = UnrolledGRU
    x = torch.randn(3, 7, 5)
    torch.testing.assert_close(unrolled(x)[0], gru(x)[0])


def test_negatives_are_few_where_they_cost_or_count() -> None:
    models = [make("sasrec"), make("din"), make(normalised=False)]
    filled = [fill_in_finetune(FineTuneConfig(steps=3), model.base.config) for model in models]
    assert [settings.negatives for settings in filled] == [64, 8, 4]
    assert {settings.steps for settings in filled} == {3}
    assert fill_in_finetune(FineTuneConfig(negatives=5), models[0].base.config).negatives == 5


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_deeper_models_are_copied_whole_too(name: str) -> None:
    torch.manual_seed(0)
    backbone = BackboneConfig(width=8, window=4, layers=2, heads=2)
    base = Recommender(V, ModelConfig(name=name, method="base", backbone=backbone)).eval()  # type: ignore[arg-type]
    settings = FineTuneConfig(scope="whole", steps=2, learning_rate=3e-3, negatives=12)
    model = FineTuned(base.double(), torch.arange(V), settings, length=10).double().eval()
    theta = model.generate(HISTORY[:1])
    alone = copy_of(finetune_alone(model, HISTORY[0]), "whole")
    torch.testing.assert_close(model.copies.start_P + theta[0], alone, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(model.score_catalogue(HISTORY[:1, :4], theta)[:, 1:]).all()


def test_the_heads_gradient_written_out_is_that_of_autograd() -> None:
    model = make()
    own = (model.copies.start_P + 0.3 * torch.randn(3, len(model.copies.start_P))).double().requires_grad_()
    prepared, weight = torch.randn(3, 6, 8, dtype=torch.float64), torch.randn(3, 6, 8, dtype=torch.float64)
    written_out = model.copies.gradient_by_query(own, prepared, lambda query: 2 * weight * query)
    by_autograd = Copies.gradient_by_query(model.copies, own, prepared, lambda query: 2 * weight * query)
    torch.testing.assert_close(written_out, by_autograd)

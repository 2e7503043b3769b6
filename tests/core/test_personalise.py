"""Layers by their names, in models of all sorts."""

import subprocess
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import duetgen
from duetgen.core import GeneratorConfig, GRUEncoder, shares
from duetgen.core.layers import NotPersonalisableError
from duetgen.core.personalise import InvalidArgumentError, OverBudgetError, choose, to_bytes


def encoder() -> GRUEncoder:
    return GRUEncoder(nn.Linear(3, 4), 4, 4)


def model() -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.ModuleDict({"embed": nn.Linear(4, 8), "body": body, "act": nn.GELU(), "head": nn.Linear(8, 2)})


ATTENTIONS = ["body.layers.0.self_attn", "body.layers.1.self_attn"]
LINEARS = [f"body.layers.{layer}.linear{one}" for layer in (0, 1) for one in (1, 2)]


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (["head"], ["head"]),
        (["body.layers.0.linear1"], LINEARS[:1]),
        (["head", "linear2"], [LINEARS[1], LINEARS[3], "head"]),
        (["body.layers.1.linear*"], LINEARS[2:]),
        (["self_attn"], ATTENTIONS),
        (["all-linear"], ["embed", *LINEARS]),
        (["layers.0.*"], [ATTENTIONS[0], *LINEARS[:2], "body.layers.0.norm1", "body.layers.0.norm2"]),
    ],
)
def test_names_ends_of_names_and_patterns(layers: list[str], names: list[str]) -> None:
    assert list(choose(model(), dict.fromkeys(layers, "scale"))) == names


def test_a_pattern_leaves_out_what_has_no_parameters() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.GroupNorm(2, 4))
    assert list(choose(plain, {"*": "scale"})) == ["0", "3"]


def test_a_linear_layer_of_another_module_is_told_by_its_module() -> None:
    class Linear(nn.Module):
        """As quantised ones are called."""

    with pytest.raises(NotPersonalisableError, match=r"0 is a tests\.core\.test_personalise\.Linear, which cannot"):
        duetgen.personalise(nn.Sequential(Linear(), nn.Linear(2, 2)), "0", encoder=encoder())


def test_the_first_pattern_says_the_kind() -> None:
    kinds = choose(model(), {"layers.0.linear1": "full", "linear1": "low-rank", "head": "scale"})
    assert kinds == {LINEARS[0]: "full", LINEARS[2]: "low-rank", "head": "scale"}


@pytest.mark.parametrize(
    ("layers", "kind", "cause", "hint"),
    [
        ("heed", "scale", "no layer of ModuleDict that theta can change is named 'heed'", "did you mean head?"),
        ("act*", "scale", "no layer of ModuleDict that theta can change", "named_modules"),
        ("act", "scale", "act is a GELU, which cannot take theta", "name linear layers"),
        ("body", "scale", "body is a TransformerEncoder, which cannot take theta", "as body.layers.0.self_attn"),
        ("out_proj", "scale", "body.layers.0.self_attn.out_proj is never called", "name the attention itself"),
        ("head", "lowrank", "there is no kind 'lowrank'", "did you mean low-rank?"),
        ("", "scale", "the model is a ModuleDict, which cannot take theta", "as embed"),
        ("head", "", "there is no kind ''", "it is one of full, low-rank, scale, prefix, concat"),
    ],
)
def test_what_cannot_take_theta_is_refused_when_it_is_made(layers: str, kind: str, cause: str, hint: str) -> None:
    with pytest.raises(NotPersonalisableError, match=cause) as refusal:
        duetgen.personalise(model(), layers, kind=kind, encoder=encoder())
    assert hint in refusal.value.hint


def test_a_compiled_layer_is_named_by_the_one_inside() -> None:
    torch.manual_seed(0)
    compiled = nn.Sequential(nn.Linear(3, 4), torch.compile(nn.Linear(4, 2), backend="eager"))
    with pytest.raises(NotPersonalisableError, match="1 is a OptimizedModule") as refusal:
        duetgen.personalise(compiled, "1", kind="full", encoder=encoder())
    name = refusal.value.hint.rpartition(" ")[2]
    assert name == "1._orig_mod"
    duet = duetgen.personalise(compiled, name, kind="full", encoder=encoder())
    x, theta = torch.randn(2, 3), torch.zeros(10)
    theta[8:] = torch.tensor([3.0, -1.0])  # the bias
    torch.testing.assert_close(duet.personal(theta, x), compiled(x) + theta[8:])


def test_more_that_is_refused() -> None:
    bare = nn.Sequential(nn.LayerNorm(4, elementwise_affine=False))
    with pytest.raises(NotPersonalisableError, match="no parameters of its own"):
        duetgen.personalise(bare, "0", encoder=encoder())
    with pytest.raises(NotPersonalisableError, match="the kind scale has no replacing form"):
        duetgen.personalise(model(), "head", encoder=encoder(), residual=False)
    with pytest.raises(NotPersonalisableError, match="a rank of 0 is none"):
        duetgen.personalise(model(), "head", kind="low-rank", rank=0, encoder=encoder())
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(NotPersonalisableError, match="the weight of 0 is computed from other parameters"):
        duetgen.personalise(normed, "0", encoder=encoder())
    for weight in ("in_proj_weight", "out_proj.weight"):
        attention = nn.MultiheadAttention(4, 2)
        owner, _, own = weight.rpartition(".")
        nn.utils.parametrizations.spectral_norm(attention.get_submodule(owner), own)
        with pytest.raises(NotPersonalisableError, match=f"the {own} of 0 is computed from other parameters"):
            duetgen.personalise(nn.Sequential(attention), "0", kind="low-rank", encoder=encoder())
    for layer in ("0", "1"):
        with pytest.raises(NotPersonalisableError, match="0 has no size yet"):
            duetgen.personalise(nn.Sequential(nn.LazyLinear(2), nn.Linear(2, 2)), layer, encoder=encoder())
    quantised = nn.Sequential(nn.Linear(2, 2))
    quantised[0].weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(NotPersonalisableError, match=r"is quantised to torch\.int8"):
        duetgen.personalise(quantised, "0", encoder=encoder())


@torch.no_grad()
def test_the_model_stays_as_it_is() -> None:
    plain, x = model()["body"].to(torch.bfloat16).eval(), torch.randn(3, 5, 8, dtype=torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    output, names = plain(x), [name for name, _ in plain.named_modules()]
    duet = duetgen.personalise(plain, ["linear1", "self_attn"], encoder=encoder())
    theta = duet.generate(torch.randn(3, 2, 3))
    assert theta.dtype == torch.float32
    assert duet.personal(theta, x).dtype == torch.bfloat16
    assert [name for name, _ in plain.named_modules()] == names
    assert all(torch.equal(before[name], tensor) for name, tensor in plain.state_dict().items())
    assert {name: tensor.dtype for name, tensor in plain.state_dict().items()} == {
        name: tensor.dtype for name, tensor in before.items()
    }
    torch.testing.assert_close(plain(x), output)


def test_a_kept_model_is_not_trained_and_stays_in_evaluation_mode() -> None:
    plain = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    duet = duetgen.personalise(plain, "3", encoder=encoder()).train()
    assert not any(module.training for module in plain.modules())
    assert duet.generator.training
    loss = duet.loss(lambda output: output.square().sum(), torch.randn(2, 3, 3), torch.randn(2, 4))
    loss.backward()
    assert all(parameter.grad is None for parameter in plain.parameters())
    assert all(parameter.grad is not None for parameter in duet.generator.parameters())


def test_a_model_that_is_trained_too_is_trained() -> None:
    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    duet = duetgen.personalise(plain, "2", encoder=encoder(), keep=False, weight=0.5).train()
    duet.loss(lambda output: output.square().sum(), torch.randn(2, 3, 3), torch.randn(2, 4)).backward()
    assert all(parameter.grad is not None for parameter in duet.parameters())


def test_a_frozen_generator_is_not_trained() -> None:
    plain = nn.Sequential(nn.Linear(4, 2))
    duet = duetgen.personalise(plain, "0", encoder=encoder(), keep=False, generator=GeneratorConfig(frozen=True))
    assert {name.split(".")[0] for name, p in duet.named_parameters() if p.requires_grad} == {"personal"}


@pytest.mark.parametrize(
    ("budget", "fits"), [(52, True), (51, False), ("104 B", True), ("0.1 kB", False), (None, True)]
)
def test_a_budget_in_values_or_bytes(budget: int | str | None, fits: bool) -> None:
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    layers = {"0": "scale", "2": "full"}  # 2 * 8 and 8 * 4 + 4 values
    if fits:
        duet = duetgen.personalise(plain, layers, encoder=encoder(), budget=budget)
        assert [(share.layer, share.values, share.bytes) for share in shares(duet.personal)] == [
            ("0", 16, 32),
            ("2", 36, 72),
        ]
        return
    with pytest.raises(OverBudgetError, match="theta would have 52 values, 104 bytes") as refusal:
        duetgen.personalise(plain, layers, encoder=encoder(), budget=budget)
    assert "2 (Linear, full): 36 values, 72 bytes; 0 (Linear, scale): 16 values, 32 bytes" in refusal.value.message


@pytest.mark.parametrize(("text", "size"), [("8 kB", 8000), ("8KiB", 8192), ("1.5 MB", 1_500_000), ("12 B", 12)])
def test_bytes(text: str, size: int) -> None:
    assert to_bytes(text) == size


@pytest.mark.parametrize("text", ["8", "kB", "8 kg", "-1 kB", "8 kiB"])
def test_no_bytes(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="budget is") as refusal:
        to_bytes(text)
    assert "bytes with a unit of B, kB" in refusal.value.hint


@pytest.mark.parametrize(
    ("argument", "value", "cause"),
    [
        *(("budget", value, f"budget is {value!r}") for value in (1.5, True, 0, -1, float("nan"), "8 apples", "")),
        ("budget", [8], "budget is a list"),
        *(("layers", value, "layers is") for value in (None, 3, [3], b"head", nn.Linear(2, 2))),
        *(("kind", value, "kind is") for value in (None, 3)),
        ("layers", {"head": None}, "kind is a NoneType"),
        *(("rank", value, "rank is") for value in (1.5, "8", True)),
        *(("batch_dim", value, "batch_dim is") for value in (-1, "1", True, None, {"": -1}, {"head": "1"})),
        ("batch_dim", {"embed": 1}, "batch_dim is 'embed'"),
        *(("weight", value, "weight is") for value in (-1, "a", float("nan"))),
        *(("generator", value, "generator is") for value in (3, GeneratorConfig(width=0), GeneratorConfig(dropout=2))),
        *(("encoder", value, "encoder is") for value in (None, "gru", nn.Linear(3, 4))),
        *(("model", value, "model is a") for value in (nn.Linear, lambda x: x)),
    ],
)
def test_an_argument_of_another_type_or_out_of_its_range_is_refused(argument: str, value: object, cause: str) -> None:
    options: dict[str, Any] = {"model": model(), "layers": "head", "encoder": encoder(), argument: value}
    with pytest.raises(InvalidArgumentError) as refusal:
        duetgen.personalise(options.pop("model"), options.pop("layers"), **options)
    assert refusal.value.message.startswith(cause)


def test_a_layer_with_two_names_is_meant_by_both() -> None:
    shared = nn.Linear(4, 4)
    twice = nn.ModuleDict({"first": shared, "second": shared, "head": nn.Linear(4, 2)})
    for layers in (["first"], ["second"], ["first", "second"], ["*st", "*nd"], ["all-linear"]):
        assert list(choose(twice, dict.fromkeys(layers, "scale"))) == ["first"]


def test_a_scripted_model_is_refused() -> None:
    plain = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.script(plain), torch.jit.trace(plain, torch.zeros(1, 3))
    for scripted in made:
        with pytest.raises(NotPersonalisableError, match="scripted or traced"):
            duetgen.personalise(scripted, "1", encoder=encoder())


@pytest.mark.parametrize("batch_dim", [1, {"": 1, "linear1": 1}])
def test_a_time_first_transformer_in_training_and_evaluation(batch_dim: int | Mapping[str, int]) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    duet = duetgen.personalise(body, ["linear1", "self_attn"], encoder=encoder(), batch_dim=batch_dim, keep=False)
    theta, x = 0.3 * torch.randn(4, duet.personal.layout.size), torch.randn(4, 4, 8)
    trained = duet.train().personal(theta, x)
    with torch.no_grad():
        evaluated = duet.eval().personal(theta, x)
    torch.testing.assert_close(trained, evaluated)
    for device in range(4):
        torch.testing.assert_close(evaluated[:, device], duet.personal(theta[device], x)[:, device])


def test_importing_duetgen_imports_no_torch() -> None:
    code = "import sys, duetgen; assert 'torch' not in sys.modules; assert callable(duetgen.personalise)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'personalize'"):
        duetgen.personalize  # noqa: B018

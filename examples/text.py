"""A text classifier of Hugging Face that knows its reader: which messages are worth a ring, on each phone by itself.

Everyone cares for other topics, so no classifier can be right for all. The words of the messages that someone kept tell
which topics are theirs. The model is DistilBERT, very small, with a random start; take one of your own with
`DistilBertForSequenceClassification.from_pretrained(...)`.

Run it from a checkout, with `pip install transformers`: `python examples/text.py`. Shapes: B readers, N messages of
each, T words of a message, L words of a history.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn
from torch.nn import functional
from transformers import DistilBertConfig, DistilBertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

import duetgen
from duetgen.cli.live import cloud_on_loopback
from duetgen.core import Duet, PooledEncoder, shares
from duetgen.device import PersonalModel
from duetgen.export import export_model

TOPICS = (
    "goal match team score league coach",
    "bread soup oven recipe salt butter",
    "train flight hotel ticket beach map",
    "song band concert guitar album stage",
)
COMMON = "the a we you is was of to and on it this"
WORDS = ["[PAD]", *COMMON.split(), *(word for topic in TOPICS for word in topic.split())]
TOPIC_WORDS = torch.tensor([[WORDS.index(word) for word in topic.split()] for topic in TOPICS])
LENGTH, KEPT, MESSAGES = 6, 8, 8
READERS = 12  # that training never saw


def read(readers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Some readers: words of what they kept [B, L], new messages [B, N, T], and whether they care [B, N]."""
    cares_BK = torch.rand(readers, len(TOPICS)).argsort(1) < len(TOPICS) // 2  # each for half of the topics

    def write(topic_BN: Tensor) -> Tensor:
        """Messages [B, N, T] on topics: half of the words tell."""
        word_BNT = TOPIC_WORDS[topic_BN[..., None], torch.randint(TOPIC_WORDS.shape[1], (*topic_BN.shape, LENGTH))]
        return torch.where(torch.arange(LENGTH) % 2 == 0, word_BNT, torch.randint(1, 13, word_BNT.shape))

    kept_BL = write(torch.multinomial(cares_BK.float(), KEPT, replacement=True)).flatten(1)
    topic_BN = torch.randint(len(TOPICS), (readers, MESSAGES))
    return kept_BL, write(topic_BN), cares_BK.gather(1, topic_BN).long()


def loss_of(found: SequenceClassifierOutput, cares: Tensor) -> Tensor:
    """Of what a model of this library returns."""
    return functional.cross_entropy(found.logits, cares)


def make() -> Duet:
    """A classifier and the generator of its readers' own versions, trained together from a random start."""
    config = DistilBertConfig(
        vocab_size=len(WORDS), dim=32, n_layers=1, n_heads=2, hidden_dim=64, max_position_embeddings=16, dropout=0.0
    )
    model = DistilBertForSequenceClassification(config)
    encoder = PooledEncoder(nn.Embedding(len(WORDS), 32, padding_idx=0), 32)
    layers = {"classifier": "full", "pre_classifier": "scale", "q_lin": "scale"}
    duet = duetgen.personalise(model, layers, encoder=encoder, keep=False, budget="1 kB")
    print("theta:", *shares(duet.personal), sep="\n  ")

    steps, rate = 250, 0.003
    optimiser = torch.optim.Adam(duet.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps)
    for _ in range(steps):
        kept, message, cares = read(16)
        objective = partial(loss_of, cares=cares.flatten())
        loss = duet.loss(objective, kept, message.flatten(0, 1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return duet.eval()


def publish(duet: Duet, folder: Path) -> Path:
    """A signed bundle: the two graphs, compared with what torch computes."""
    kept, message, _ = read(64)
    export_model(
        duet,
        folder,
        key=Ed25519PrivateKey.generate(),  # `duet keys` keeps one in a file
        name="ring",
        inputs={"input_ids": message[0]},
        histories=kept.tolist(),
        samples="ids",
        vocabulary=len(WORDS),
        output=lambda found: found.logits,
    )
    return folder


def live(bundle: Path, url: str) -> dict[str, float]:
    """Phones that note the words their readers kept, ask the cloud once, and decide: how often each is right."""
    kept, message, cares = (part.numpy() for part in read(READERS))

    def right(device: PersonalModel, reader: int, personal: bool = True) -> float:
        logits = device.run({"input_ids": message[reader]}, personal=personal)
        return float((logits.argmax(-1) == cares[reader]).mean())

    found = []
    for reader in range(READERS):
        with PersonalModel(bundle, cloud=url, device_id=f"reader-{reader}", background=False) as device:
            device.observe(*kept[reader])
            assert device.refresh(wait=True), device.status().last_error
            other = (reader + 1) % READERS
            found.append((right(device, reader, personal=False), right(device, reader), right(device, other)))
    return dict(zip(("theta = 0", "own theta", "another's theta"), np.mean(found, axis=0).tolist(), strict=True))


def main() -> dict[str, float]:
    """All of it; accuracy by theta."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        bundle = publish(make(), Path(folder) / "bundle")
        with cloud_on_loopback(bundle, Path(folder) / "cloud.log") as url:
            accuracy = live(bundle, url)
    for name, value in accuracy.items():
        print(f"{name:>16}: {value:.1%} of messages told rightly")
    return accuracy


if __name__ == "__main__":
    torch.set_num_threads(1)  # so small a model is fastest on one
    main()

"""Training the validity model and the explainers that learn, and keeping them in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tilewright.progress import Progress
from tilewright.search.fusion.explain.model import Batch, need_torch, new_model
from tilewright.search.fusion.explain.samples import BUFFER_SIZES, Sample, sample_groups
from tilewright.search.mapping_cache import cache_folder
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.scheme import get_scheme
from tilewright.workloads.network import load_network

__all__ = ["TRAINING_NETWORKS", "Quality", "Trained", "quality_of", "trained_model"]

#: The networks whose groups are learnt from, and how many groups of each: those of the study that the zoo has.
TRAINING_NETWORKS = {
    "vgg-16": 150,
    "resnet-18": 200,
    "resnet-50": 300,
    "squeezenet": 300,
    "mobilenet-v2": 350,
    "efficientnet-b3": 450,
}
_EPOCHS = 30
_BATCH = 128
_LEARNING_RATE = 2e-3
_SEED = 0
_FORM = 1  # of the files; a new number makes old ones be trained anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well the model tells groups that fit: parts of samples that it was not trained on."""

    n_samples: int
    share_fitting: float
    accuracy: float
    f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained model, its quality on held-out samples, and samples that do not fit, for explainers to learn from."""

    scheme: str
    model: Any
    quality: Quality
    explained: tuple[Sample, ...]
    folder: Path
    key: str


def quality_of(model: Any, samples: Sequence[Sample]) -> Quality:
    """Accuracy and F1 ("fits" is the positive class) of the model on the samples."""
    torch = need_torch()
    with torch.no_grad():
        said = [bool(x > 0) for at in range(0, len(samples), 512) for x in model(Batch(samples[at : at + 512]))]
    right = sum(a == sample.fits for a, sample in zip(said, samples, strict=True))
    both = sum(a and sample.fits for a, sample in zip(said, samples, strict=True))
    n_fitting = sum(sample.fits for sample in samples)
    return Quality(
        n_samples=len(samples),
        share_fitting=n_fitting / len(samples),
        accuracy=right / len(samples),
        f1=2 * both / max(1, sum(said) + n_fitting),
    )


def trained_model(scheme: str, *, progress: Progress | None = None) -> Trained:
    """The validity model of a fusion scheme, from the cache folder or trained now (a minute or two on one core).

    80 % of the groups train, 10 % choose the epoch, 10 % give the quality: a group is on one side only, whatever the
    buffer size. The same code gives the same model.
    """
    torch = need_torch()
    folder = cache_folder() / "fusion"
    key = _key(scheme)
    path = folder / f"{scheme}-{key}.pt"
    model = new_model(_SEED)
    kept = _load(path, model)
    if kept is None:
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            kept = _train(model, _samples(scheme), progress)
        finally:
            torch.set_num_threads(n_threads)
        explained = [(torch.from_numpy(sample.features), [list(edge) for edge in sample.edges]) for sample in kept[1]]
        save(path, {"state": model.state_dict(), "quality": asdict(kept[0]), "explained": explained})
    model.eval()
    for weight in model.parameters():
        weight.requires_grad_(False)
    return Trained(scheme=scheme, model=model, quality=kept[0], explained=tuple(kept[1]), folder=folder, key=key)


def _samples(scheme: str) -> list[tuple[Sample, ...]]:
    found: list[tuple[Sample, ...]] = []
    for name, n_groups in TRAINING_NETWORKS.items():
        found += sample_groups(fusion_graph(load_network(name)), scheme, n_groups, _SEED)
    random.Random(_SEED).shuffle(found)
    return found


def _train(model: Any, groups: list[tuple[Sample, ...]], progress: Progress | None) -> tuple[Quality, list[Sample]]:
    torch = need_torch()
    n_train, n_choose = len(groups) * 8 // 10, len(groups) // 10
    parts = groups[:n_train], groups[n_train : n_train + n_choose], groups[n_train + n_choose :]
    train, choose, test = ([sample for group in part for sample in group] for part in parts)
    optimiser = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _EPOCHS)
    loss_of = torch.nn.BCEWithLogitsLoss()
    # Groups of like size together: batches differ less in size. Made once, visited in a new order each epoch.
    by_size = sorted(train, key=lambda sample: len(sample.features))
    batches = [Batch(by_size[at : at + _BATCH]) for at in range(0, len(by_size), _BATCH)]
    chance = random.Random(_SEED)
    best, best_state = -1.0, model.state_dict()
    for epoch in range(_EPOCHS):
        chance.shuffle(batches)
        for batch in batches:
            optimiser.zero_grad()
            loss_of(model(batch), batch.fits).backward()
            optimiser.step()
        schedule.step()
        accuracy = quality_of(model, choose).accuracy
        if accuracy >= best:
            best, best_state = accuracy, {name: value.clone() for name, value in model.state_dict().items()}
        if progress is not None:
            progress(epoch + 1, _EPOCHS, "training")
    model.load_state_dict(best_state)
    unfit = [sample for sample in train if not sample.fits and sample.edges][:400]
    return quality_of(model, test), unfit


def _key(scheme: str) -> str:
    """Changes with the code that decides about samples and labels, and with the model's."""
    from tilewright.search.fusion.explain import model, samples
    from tilewright.sim.fusion import rows
    from tilewright.sim.fusion.graph import build, geometry
    from tilewright.sim.fusion.graph import fusion_graph as graph

    digest = hashlib.sha256(json.dumps([_FORM, scheme, TRAINING_NETWORKS, _EPOCHS, _BATCH, _LEARNING_RATE]).encode())
    labelling = sys.modules[type(get_scheme(scheme, BUFFER_SIZES[0]).scheme).__module__]
    for module in (geometry, graph, build, rows, labelling, samples, model):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


def _load(path: Path, model: Any) -> tuple[Quality, list[Sample]] | None:
    kept = load(path)
    try:
        model.load_state_dict(kept["state"])
        explained = [
            Sample(features=features.numpy(), edges=tuple(map(tuple, edges)), fits=False)
            for features, edges in kept["explained"]
        ]
        return Quality(**kept["quality"]), explained
    except (KeyError, TypeError, ValueError, RuntimeError):
        return None


def load(path: Path) -> Any:
    """What was kept at ``path``; nothing of it where the file is missing or damaged."""
    torch = need_torch()
    try:
        return torch.load(path, weights_only=True)
    except Exception:  # a damaged file raises whatever its bytes lead to; it counts as absent
        return {}


def save(path: Path, value: Any) -> None:
    """Keep ``value``; the file appears whole or not at all, and a folder that cannot be written is no fault."""
    torch = need_torch()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        torch.save(value, aside)
        os.replace(aside, path)
    except OSError:
        return

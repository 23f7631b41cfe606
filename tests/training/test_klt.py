from __future__ import annotations

import torch

from mpa_core.base.gains import Quality
from mpa_core.base.tinylic import klt
from mpa_core.base.tinylic.presets import PRESETS
from mpa_core.coding.model import MPAModel
from mpa_core.tasks.photos import PhotoFolder
from mpa_core.training.data.photos import PhotoBatches


def reconstruct(model, x):
    quality = Quality(4.0, levels=8, batch=len(x))
    with torch.no_grad():
        return model.base.synthesise(model.base.analyse(x, quality), quality)


def test_the_start_is_nearly_a_projection_of_photos(photo_folder, settings):
    config = settings("data.batch=8")
    photos = PhotoFolder(photo_folder, min_side=64, cache_mib=64)
    source = PhotoBatches(photos, config.data, config.loss, levels=8, seed=0)
    x = torch.cat([source.batch(step).images for step in range(4)])
    torch.manual_seed(0)
    model = MPAModel(PRESETS["mpa-tiny"]).eval()
    variance = (x - x.mean((2, 3), keepdim=True)).square().mean()
    assert (reconstruct(model, x) - x).square().mean() > variance
    klt.initialise(model.base, x)
    # 32 components of 768 keep most of a photo's energy.
    assert (reconstruct(model, x) - x).square().mean() < 0.2 * variance
    first = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    again = MPAModel(PRESETS["mpa-tiny"]).eval()
    klt.initialise(again.base, x)
    assert all(torch.equal(value, first[name]) for name, value in again.state_dict().items())


def test_a_run_can_start_there(photo_folder, tmp_path, settings):
    from mpa_core.training.runs.run import Run, train

    wanted = settings("init.transform=klt", "budget.steps=1", "init.y_gain=[1.2, 12.0]")
    outcome = train(Run(tmp_path / "run", photo_folder), wanted)
    assert outcome.step == 1

"""The end of a run: its model with card and tokenizer, and its summary."""

from __future__ import annotations

import shutil
from pathlib import Path

from burnish.config import Run
from burnish.engine import checkpoint, modalities, model, reward_model, sharding
from burnish.engine.model_card import model_card
from burnish.engine.scoring import rewards
from burnish.errors import StoreError
from burnish.loop.build import Trainer
from burnish.loop.resume import save
from burnish.reports.run import write_summary
from burnish.runlog.folder import is_finished
from burnish.runlog.progress import Progress
from burnish.runlog.records import EndRecord

REWARD_SAMPLE = 512  # groups whose answers say where a reward model's rewards lie


def finish(trainer: Trainer) -> None:
    """Write the model, its card and the summary, and say where they lie. Raises StoreError where they cannot be."""
    prepared, policy = trainer.prepared, trainer.engine.policy
    folder = Path(trainer.run.run.dir)

    def fill(target: Path) -> None:
        model.save_model(policy, target, prepared.tokenizer, weights)
        reads = policy.base.config.reward_reads if policy.scalar else ""
        (target / "README.md").write_text(model_card(trainer.run, prepared.lines, reads), encoding="utf-8")
        if policy.scalar:
            reward_model.write_about(policy, target, sample_rewards, prepared.mixture.name)

    sample = (prepared.evaluation or prepared.train)[:REWARD_SAMPLE]
    sample_rewards = rewards(trainer.engine, sample) if policy.scalar else []
    last = save(trainer, trainer.steps, wait=True)  # a full disk or an impatient user must not cost the run
    policy.settle()
    weights = None
    if policy.sharded:
        wide = modalities.unreached_parameters(policy.base).keys()
        weights = sharding.gathered(policy.module, policy.dtype, trained_only=policy.adapted, wide=wide)
    if trainer.world.leads:
        checkpoint.write_folder(folder / "model", fill, "model")
        trainer.log.write(EndRecord(step=trainer.steps))
        shutil.rmtree(last, ignore_errors=True)  # only now: who is killed before must find it whole
        trainer.progress.note(write_summary(folder))
    trainer.world.lead(lambda: None)  # nobody leaves before the model is written


def already_finished(run: Run) -> bool:
    """Whether a run to be resumed is finished, which is said: what starts runs again until they end may end. A summary
    that is missing, because the run was killed at its very end, is written.

    Raises StoreError as `is_finished` does, and where the model is gone.
    """
    if not is_finished(run):
        return False
    folder, progress = Path(run.run.dir), Progress()
    if not (folder / "model").is_dir():
        raise StoreError(
            f"the run in {folder} is finished, but its model is gone ({folder / 'model'}): there is nothing to go on "
            "from. Train again (run.overwrite=true), or name another run.dir"
        )
    progress.note(f"the run in {folder} is finished: its model is in {folder / 'model'}, nothing is left to resume")
    if not (folder / "summary.txt").exists():
        progress.note(write_summary(folder))
    return True

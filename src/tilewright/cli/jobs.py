"""``tilewright simulate --run FILE`` for a run of kind ``jobs``: a system on a chip in the machine's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation, patience

if TYPE_CHECKING:
    from tilewright.workloads.runs.kinds.jobs import JobsRun

__all__ = ["show_jobs"]


def show_jobs(outputs: Outputs, run: JobsRun, soc: str, *, keep_mappings: bool, command: str) -> None:
    """Schedule, show and write what ``outputs`` asks for; raises InputError."""
    from tilewright.hw_models.soc.load import load_soc

    system = load_soc(soc)
    if any(application.network for application in run.applications.values()):
        announce_compilation()

    from tilewright.reports.origin import Origin
    from tilewright.reports.soc.table import applications_table, jobs_table, schedulers_table
    from tilewright.search.mapping_cache import ForgetfulCache, MappingCache
    from tilewright.search.schedule.jobs import simulate_jobs

    with ProgressBar() as progress:
        cache = MappingCache() if keep_mappings else ForgetfulCache()
        result = simulate_jobs(run, system, cache=cache, progress=progress)
    if outputs.speaks:
        console = outputs.console()
        outputs.show(applications_table(console, result), schedulers_table(console, result), jobs_table(result))
    origin = Origin(facts={"scheduler": result.scheduler})
    outputs.write_json(result.to_dict(), origin)
    outputs.write_csv(result.rows(), origin)
    if outputs.report is not None:
        from tilewright.reports.soc.page import write_jobs_report

        with patience(f"page of {result.name}"):
            path = write_jobs_report(outputs.report, result, command=command)
        note(f"wrote {path}")

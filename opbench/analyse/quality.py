"""How good a run's own figures are: what was left out because the machine was disturbed, and in which phase it was."""

from __future__ import annotations

import msgspec

from opbench.schema import Run


class Quality(msgspec.Struct, frozen=True):
    """Counts over every latency that was watched: samples, those that no figure is of, and latencies by phase."""

    samples: int
    left_out: int
    clear: int
    shared: int
    disturbed: int
    shared_cpu: bool = False

    @property
    def watched(self) -> bool:
        """Whether anything was; an older document's figures were not."""
        return bool(self.samples or self.disturbed)


def quality(run: Run) -> Quality:
    """Of a whole run."""
    watched = [latency for record in run.records for latency in record.latencies if latency.waited]
    return Quality(
        samples=sum(len(samples) for latency in watched for samples in latency.samples_seconds),
        left_out=sum(len(out) for latency in watched for out in latency.left_out),
        clear=sum(latency.phase == "clear" for latency in watched),
        shared=sum(latency.phase == "shared" for latency in watched),
        disturbed=sum(record.outcome == "disturbed" for record in run.records),
        shared_cpu=run.settings.share_cpu,
    )


def sentence(found: Quality) -> str:
    """The quality in one line; "" where nothing was watched."""
    if found.shared_cpu:
        return "Quality: other processes may have had the cores, and no round was left out for it (--share-cpu)."
    if not found.watched:
        return ""
    share = f"{found.left_out / found.samples:.0%}" if found.samples else "none"
    said = [f"{share} of {found.samples} samples left out (a core was waited for, or the machine was in another phase)"]
    if found.shared:
        said.append(f"{found.shared} of {found.clear + found.shared} figures are of a machine that others shared")
    if found.disturbed:
        said.append(
            f"{found.disturbed} case{'' if found.disturbed == 1 else 's'} disturbed, without a figure: other "
            "processes had the cores; use --threads auto, another hour, or --share-cpu to let such rounds count"
        )
    return "Quality: " + "; ".join(said) + "."

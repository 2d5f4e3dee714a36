"""What a doctor found, as text for people or in the form that `--format` asks for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from console.output import Output
    from linux.probes import Finding

NAMES = ("name", "status", "text", "remedy")
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def show(findings: Sequence[Finding], form: str, out: Output) -> int:
    """Print them; 254 if one of them is a failure, else 0."""
    if form in ("", "table"):
        width = max(16, *(len(finding.name) for finding in findings)) if findings else 0
        for finding in findings:
            mark = out.paint(f"{finding.status:4}", _COLOURS[finding.status], stdout=True)
            out.styled(mark, f"  {finding.name:{width}}  {finding.text}")
            if finding.remedy:
                out.line(f"{'':{width + 8}}to mend: {finding.remedy}")
    else:
        out.listing(form, [finding.to_json() for finding in findings], NAMES)
    return 254 if any(finding.status == "fail" for finding in findings) else 0

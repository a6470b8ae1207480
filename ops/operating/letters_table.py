"""Dead letters, for people."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.operating.lag_table import utc
from ops.operating.letters import Retried, Summary


def print_summary(summary: Summary, console: Console) -> None:
    """Print the reasons with their counts, then the newest letters."""
    if not summary.n_letters:
        console.print("Nothing was refused.")
        return
    reasons = Table("letters", "topic", "field", "reason", "first (UTC)", "last", box=None)
    for count in summary.reasons:
        texts = (escape(text) for text in (count.topic, count.field, count.reason))
        reasons.add_row(str(count.n), *texts, utc(count.first_ts), utc(count.last_ts))
    console.print(reasons)
    console.print(f"\n{summary.n_letters} letters, {summary.n_fed_again} of them fed again. The newest:")
    for sample in summary.samples:
        again = ", fed again" if sample["fed_again"] else ""
        console.print(f"{utc(sample['ts'])} {sample['source']}{again}", style="bold", highlight=False)
        field = f"{sample['field']}: " if sample["field"] else ""
        console.print(f"  {field}{sample['reason']}", markup=False, highlight=False)
        console.print(f"  {sample['value']}", markup=False, highlight=False)


def print_retried(result: Retried, console: Console) -> None:
    """Print what became of the letters."""
    if not result.outcomes:
        console.print("There is no such letter.")
    for outcome, n_letters in sorted(result.outcomes.items()):
        console.print(f"{n_letters} {outcome}", highlight=False)
    for reason, n_letters in result.refused.most_common():
        console.print(f"  {n_letters} {reason}", markup=False, highlight=False)

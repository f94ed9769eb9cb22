"""A report as plain text and as HTML. Must not know how its numbers came about."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from skltransfer._system.tables import aligned

HEADERS = ("", "{unit}", "transfer ahead by [95 %]", "right alone", "p", "fit s")
SMALLEST_P = 0.001


def score_in_words(value: float, is_accuracy: bool) -> str:
    """Accuracies in per cent, other scores with three decimals or, from a hundred on, four digits."""
    if is_accuracy:
        return f"{100 * value:.1f}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def margin_in_words(rope: float, is_accuracy: bool) -> str:
    """The region of practical equivalence: points of accuracy, or the score's own unit."""
    if not is_accuracy:
        return f"{rope:g}"
    return f"{100 * rope:g} point{'s' * (rope != 0.01)}"


def cells_in_words(report: Any) -> list[tuple[str, ...]]:
    """The table's cells: a row of headers, then one per model, transfer first; columns that say something."""
    is_accuracy = report.scoring == "accuracy"
    unit = "accuracy, %" if is_accuracy else report.scoring_name
    models = [_row(record, is_accuracy) for record in report.table_]
    shown = [column for column in range(len(HEADERS)) if any(row[column] for row in models)]
    rows = [tuple(header.format(unit=unit) for header in HEADERS), *models]
    return [tuple(row[column] for column in shown) for row in rows]


def _row(record: Mapping[str, Any], is_accuracy: bool) -> tuple[str, ...]:
    score, spread = (score_in_words(record[key], is_accuracy) for key in ("score", "std"))
    cells = [record["description"], f"{score} ± {spread}"]
    if record["difference"] is None:
        cells += ["", "", ""]
    else:
        d, low, high = (_signed(record[key], is_accuracy) for key in ("difference", "low", "high"))
        rows = "" if record["n_better"] is None else f"{record['n_better']} : {record['n_worse']}"
        cells += [f"{d} [{low}, {high}]", rows, p_in_words(record["p_adjusted"])]
    return (*cells, f"{record['fit_seconds']:.3g}")


def _signed(value: float, is_accuracy: bool) -> str:
    return f"{'+' * (value >= 0)}{score_in_words(value, is_accuracy)}"


def p_in_words(p_value: float) -> str:
    """Three digits without the zero, as is usual."""
    return "<.001" if p_value < SMALLEST_P else "1" if p_value > 0.9995 else f"{p_value:.3f}"[1:]


def heading(report: Any) -> str:
    """Question, data and method."""
    kinds = "" if report.n_classes is None else f", {report.n_classes} classes"
    chance = "" if report.chance is None else f", chance {100 * report.chance:.1f} %"
    return f"Does transfer help?  n={report.n:,}{kinds}; {report.n_folds} folds, the same for all{chance}"


def footing(report: Any) -> list[tuple[str, str]]:
    """Lines below the table, with a word before each."""
    lines = [(report.verdict, report.reason)]
    lines += [("next" if i == 0 else "", line) for i, line in enumerate(report.advice)]
    lines += [("beware", line) for line in report.warnings]
    if report.depths:
        lines.append(
            (
                "frozen",
                f"up to {', '.join(f'{name} ({k} of {report.n_folds} folds)' for name, k in report.depths.items())}",
            )
        )
    return [*lines, ("test", f"{report.test}; p is Holm-adjusted, intervals are not")]


def as_text(report: Any) -> str:
    """The report in plain letters."""
    rows = cells_in_words(report)
    lines = aligned(rows)
    below = footing(report)
    indent = max(len(word) for word, _ in below) + 2
    return "\n".join([heading(report), "", *lines, "", *(f"{word:<{indent}}{line}" for word, line in below)])


def as_html(report: Any) -> str:
    """The report as one table; nothing that a user passed is taken for markup."""
    headers, *rows = cells_in_words(report)
    head, body = _cells("th", headers), "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    below = "".join(f"<tr>{_cells('td', pair)}</tr>" for pair in footing(report)[1:])
    return (
        f"<div><p>{escape(heading(report))}</p><p><b>{escape(report.verdict)}</b>: {escape(report.reason)}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><table><tbody>{below}</tbody></table></div>"
    )


def _cells(tag: str, cells: Sequence[str]) -> str:
    return "".join(f'<{tag} style="text-align: left">{escape(cell)}</{tag}>' for cell in cells)

"""What the survey of `will_it_train.py` leaves: a document of what became of each step, and its page."""

import gzip
import json

STEPS = (
    "builds", "trains", "validates", "reloads", "resumes", "fuses", "predicts", "copies", "exports", "autocast",
)  # fmt: skip
# Beside the steps of a row: places of the slot that the operator refuses, and why.
LEFT_OUT = "left out"
ABOUT = {
    "builds": "swapped in, and called in training mode on one square image, as strides are found",
    "trains": "one epoch of the trainer; every loss finite, every new parameter with a gradient, weights saved",
    "validates": "on rectangular images",
    "reloads": "`best.pt` opened in a new process gives the same predictions",
    "resumes": "from `last.pt` of a training that was broken off, by the trainer's own `resume`",
    "fuses": "convolutions with their norms; predictions as before",
    "predicts": "boxes of a picture by `predict()`, finite and inside it",
    "copies": "a deep copy, as for the moving average, gives the same predictions",
    "exports": "to TorchScript and to ONNX (opset 17), whose predictions are the network's",
    "autocast": "forward, loss and backward in bfloat16: finite, a gradient for every parameter",
}


def save(document, path):
    """What all rows share in the first line, then a line an operator; the same bytes of the same document."""
    shared = {name: value for name, value in document.items() if name != "rows"}
    lines = "".join(json.dumps(one) + "\n" for one in (shared, *document["rows"]))
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def read(path):
    """A document that was saved."""
    shared, *rows = map(json.loads, gzip.decompress(path.read_bytes()).decode().splitlines())
    return {**shared, "rows": rows}


def table(document):
    """The page: a row an operator, a column a step, failures in words below."""
    rows = ["| slot | operator | " + " | ".join(STEPS) + " |", "| --- | --- " + "| --- " * len(STEPS) + "|"]
    words = []
    for row in document["rows"]:
        cells = []
        for step in STEPS:
            outcome = row["steps"][step]
            cells.append("yes" if outcome == "ok" else "-" if outcome == "not reached" else "**no**")
            if outcome not in ("ok", "not reached"):
                words.append(f"- `{row['operator']}` in `{row['slot']}`, {step}: {outcome.replace('|', '/')}")
        if said := row.get(LEFT_OUT):
            words.append(f"- `{row['operator']}` in `{row['slot']}` leaves as it is {said.replace('|', '/')}")
        rows.append(f"| `{row['slot']}` | `{row['operator']}` | " + " | ".join(cells) + " |")
    legend = [f"- *{step}*: {ABOUT[step]}" for step in STEPS]
    return "\n".join(
        [
            f"# Will it train: {document['network']} at {document['size']} px",
            "",
            f"{document['machine']}, torch {document['torch']}, ultralytics {document['ultralytics']}, on the CPU.",
            "",
            *rows,
            "",
            *(words or ["Nothing failed, and no place was left out."]),
            "",
            "What is asked:",
            "",
            *legend,
            "",
            "To repeat it:",
            "",
            "```sh",
            document["command"],
            "```",
            "",
        ]
    )


def summary(documents):
    """A row an operator, a column a network: "all" or the steps that fail; below, the places that were left out."""
    held = [{(row["slot"], row["operator"]): row for row in document["rows"]} for document in documents]
    names = [document["network"].removesuffix(".yaml") for document in documents]
    lines = [f"| slot | operator | {' | '.join(names)} |", "| --- | --- " + "| --- " * len(names) + "|"]
    notes = []
    for slot, operator in dict.fromkeys(place for rows in held for place in rows):
        cells = []
        for rows, name in zip(held, names, strict=True):
            row = rows.get((slot, operator))
            failed = [] if row is None else [step for step in STEPS if row["steps"][step] != "ok"]
            cells.append("not tried" if row is None else f"not: {', '.join(failed)}" if failed else "all")
            if row and row.get(LEFT_OUT):
                notes.append(f"- `{operator}` in `{slot}` of {name} leaves as it is {row[LEFT_OUT]}.")
        lines.append(f"| `{slot}` | `{operator}` | {' | '.join(cells)} |")
    return [*lines, "", *notes]

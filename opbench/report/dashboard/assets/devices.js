// Machines side by side by their yardsticks, and how far what others contributed was checked.
import { el, empty } from "./dom.js";
import { devices } from "./data.js";
import { address } from "./state.js";
import { has, wordsOf } from "./filters.js";
import { dataTable } from "./table.js";

const OF_STATUS = { checked: "good", "partly checked": "", refused: "bad", "not verified": "bad" };

export const devicesView = {
  name: "Devices",
  filters: ["text"],
  draw() {
    const words = wordsOf(this);
    const kept = devices.machines.filter((one) =>
      has(words, one.machine, one.status, one.contributor, one.note, one.suite),
    );
    if (!kept.length) return [empty("No machine matches the search.")];
    const plain = (key, label) => ({ key, label, text: (one) => one[key], value: (one) => one[key] });
    return [
      el(
        "p",
        { class: "note" },
        "Yardsticks are what each machine can do at most, measured in the run itself. A contributed run was held against everything that can be derived of it on another machine; below the table stands what was, and what can't be.",
      ),
      dataTable({
        caption: "Machines, each by its newest run",
        rows: kept,
        columns: [
          plain("machine", "machine"),
          { ...plain("status", "status"), kind: (one) => OF_STATUS[one.status] ?? "" },
          ...devices.yardsticks.map((name, at) => ({
            key: `yardstick-${at}`,
            label: name,
            text: (one) => one.texts[at],
            value: (one) => one.rates[at],
            number: true,
          })),
          {
            ...plain("path", "run"),
            cell: (one) => el("a", { href: address("runs", { runPath: one.path }) }, `${one.suite}, ${one.started}`),
          },
          plain("contributor", "contributed by"),
          { ...plain("note", "note"), kind: () => "wrap" },
        ],
      }),
      kept.filter((one) => one.checked.length).map(verificationOf),
    ];
  },
};

function verificationOf(one) {
  const list = (title, items) => [el("h4", {}, title), el("ul", {}, items.map((item) => el("li", {}, item)))];
  return el(
    "details",
    {},
    el("summary", {}, `${one.machine}: ${one.status}`),
    list("Derived again from the document", one.checked),
    list("Not checked", one.unchecked),
  );
}

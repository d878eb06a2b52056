// Published claims, each with what the runs make of it.
import { el, empty } from "./dom.js";
import { claims } from "./data.js";
import { has, wordsOf } from "./filters.js";
import { KINDS, dataTable } from "./table.js";

const ORDER = ["refuted", "confirmed", "undecided"];

export const claimsView = {
  name: "Claims",
  filters: ["text"],
  draw() {
    if (!claims.length) return [empty("No claim was evaluated for this page.")];
    const words = wordsOf(this);
    const place = (claim) => (ORDER.includes(claim.verdict) ? ORDER.indexOf(claim.verdict) : ORDER.length);
    const kept = claims.filter((claim) => has(words, ...Object.values(claim)));
    kept.sort((one, other) => place(one) - place(other));
    const plain = (key, label) => ({
      key,
      label,
      text: (claim) => claim[key],
      value: (claim) => claim[key],
      kind: () => "wrap",
    });
    return [
      el(
        "ul",
        { class: "tally" },
        ORDER.map((verdict) =>
          el(
            "li",
            { class: KINDS[verdict] },
            `${claims.filter((claim) => claim.verdict === verdict).length} ${verdict}`,
          ),
        ),
      ),
      kept.length
        ? dataTable({
            caption: "Claims",
            rows: kept,
            columns: [
              plain("claim", "claim"),
              {
                key: "verdict",
                label: "verdict",
                text: (claim) => claim.verdict,
                value: place,
                kind: (claim) => KINDS[claim.verdict] ?? "",
              },
              plain("evidence", "numbers"),
              plain("baseline", "against"),
              plain("reading", "read as"),
              plain("source", "source"),
            ],
          })
        : empty("No claim matches the search."),
    ];
  },
};

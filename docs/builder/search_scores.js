/* Ranking of search results: guides and references before reasons, changes and files of the repository. */
const LAST = /^(decisions|files)\/|^(changelog|contributing|tour|faults|soak)$/;

var Scorer = {
  score: ([document, title, anchor, description, score]) => (LAST.test(document) ? score - 100 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

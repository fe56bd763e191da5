// Tables: TanStack's core (vendor/) keeps order and page size; the elements are ours, so that all content of a row
// becomes text.
/* global TableCore */
import { el, put } from "./dom.js";
import { text } from "./words.js";

const FIRST = 20;

// Columns: { id, label, value (sort key; omit it to forbid sorting), cell (row -> children), end (align right) }.
export function grid(label, columns, first = FIRST) {
  const place = el("div", { class: "scroll" });
  let state = { sorting: [], pagination: { pageIndex: 0, pageSize: first } };
  const table = TableCore.createTable({
    data: [], columns: columns.map(({ id, value }) => ({ id, accessorFn: value || (() => null), enableSorting: Boolean(value), sortUndefined: "last" })),
    state: {}, onStateChange: () => {}, renderFallbackValue: null,
    getCoreRowModel: TableCore.getCoreRowModel(), getSortedRowModel: TableCore.getSortedRowModel(), getPaginationRowModel: TableCore.getPaginationRowModel(),
    autoResetPageIndex: false,
  });
  state = { ...table.initialState, ...state };
  const set = (change) => table.setOptions((old) => ({ ...old, ...change, state, onStateChange: (update) => { state = typeof update === "function" ? update(state) : update; set({}); draw(); } }));

  function head({ id, label: words, value, end }) {
    if (!value) return el("th", { class: end ? "end" : null, scope: "col" }, words);
    const order = table.getColumn(id).getIsSorted();
    const button = el("button", { type: "button", class: `sort ${order || ""}`, "data-column": id, onclick: () => { table.getColumn(id).toggleSorting(); place.querySelector(`[data-column="${id}"]`).focus(); } }, words);
    return el("th", { class: end ? "end" : null, scope: "col", "aria-sort": order ? `${order}ending` : "none" }, button);
  }

  function draw() {
    const rows = table.getRowModel().rows.map((row) => el("tr", { role: "row" },
      ...columns.map(({ cell, end, label: words }) => put(el("td", { role: "cell", class: end ? "end" : null, "data-label": words || null }), ...cell(row.original)))));
    const hidden = table.getPrePaginationRowModel().rows.length - rows.length;
    put(place,
      el("table", { class: "list", role: "table", "aria-label": label },
        el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...columns.map(head))), el("tbody", { role: "rowgroup" }, ...rows)),
      hidden > 0 ? el("button", { type: "button", class: "quiet more", onclick: () => table.setPageSize(state.pagination.pageSize * 4) }, text("more")) : null);
  }

  set({});
  return { place, show: (rows) => { set({ data: rows }); draw(); } };
}

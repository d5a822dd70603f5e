"""The look of a report: readable on screen and on paper, without any file beside the page."""

STYLE = """
:root { color-scheme: light; --ink: #1b2430; --soft: #5a6675; --line: #d8dee6; --accent: #0b5394; --tint: #f3f6fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2.5rem 1.5rem 2rem; color: var(--ink); background: #fff;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; }
.subtitle { margin: .4rem 0 0; color: var(--soft); font-size: 1.1rem; }
h2 { margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 2px solid var(--accent); font-size: 1.3rem;
  break-after: avoid; }
p { margin: .7rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.note { border-left: 4px solid var(--accent); background: var(--tint); padding: .6rem 1rem; }
.wide { overflow-x: auto; margin: 1rem 0 1.4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
caption { caption-side: bottom; padding-top: .5rem; text-align: left; color: var(--soft); font-size: .9rem; }
th, td { padding: .32rem .9rem .32rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th + th, th + td, td + td { padding-left: .9rem; }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
tbody th { font-weight: normal; }
tfoot th, tfoot td { border-top: 2px solid var(--ink); border-bottom: 0; font-weight: 600; }
.number { text-align: right; }
td { white-space: nowrap; }
thead th { line-height: 1.3; }
figure { margin: 1rem 0 1.6rem; break-inside: avoid; }
img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: .4rem; max-width: 46rem; color: var(--soft); font-size: .9rem; }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .9rem; }
@media print {
  @page { margin: 18mm 15mm; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  .wide { overflow: visible; }
  footer { margin-top: 1rem; break-before: avoid; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
  .note { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

"""The page's style sheet: for a screen, and for A4.

What it refuses to be: a link. Fonts are whatever the reader's machine has, with the families that Debian, Android,
Windows and macOS bring for Indian scripts named after the Latin ones.
"""

CSS = """
:root { --ink: #1b2430; --soft: #5a6675; --line: #d5dae1; --wash: #f4f6f9; --blue: #0072b2; --warn: #8a3b00;
  --sans: "Inter", "Segoe UI", "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, "Noto Sans Devanagari",
    "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Telugu", "Noto Sans Kannada", "Noto Sans Malayalam",
    "Noto Sans Gujarati", "Noto Sans Gurmukhi", "Noto Sans Oriya", "Noto Sans Ol Chiki", "Noto Sans Meetei Mayek",
    "Noto Nastaliq Urdu", "Noto Naskh Arabic", "Nirmala UI", "Kohinoor Devanagari", "DejaVu Sans", sans-serif; }
* { box-sizing: border-box; }
html { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
body { margin: 0; background: #e9ecf1; color: var(--ink); font: 13px/1.42 var(--sans); }
main { max-width: 820px; margin: 0 auto; }
section.sheet { background: #fff; margin: 18px 0; padding: 34px 40px 28px; position: relative; }
h1 { font-size: 25px; line-height: 1.15; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 16px; margin: 26px 0 6px; break-after: avoid; }
section.sheet > h2:first-child { margin-top: 0; }
h3 { font-size: 12.5px; margin: 16px 0 4px; break-after: avoid; }
p { margin: 4px 0 8px; }
.under { color: var(--soft); margin: 4px 0 0; }
.note { color: var(--soft); font-size: 11.5px; line-height: 1.38; }
h2 + .note { break-after: avoid; }
.simulated { background: #fff3d6; border: 2px solid #b86e00; color: #6b3f00; padding: 7px 12px; margin: 0 0 16px;
  font-weight: 600; }
.mark { display: none; }
.cards { display: grid; grid-template-columns: repeat(3, 1fr); gap: 12px; margin: 18px 0 6px; }
.card { border: 1px solid var(--line); border-top: 4px solid var(--ink); padding: 10px 13px 9px; }
.card.marginal { border-top-color: #0072b2; } .card.loaded { border-top-color: #009e73; }
.card.hosted { border-top-color: #e69f00; }
.card h3 { margin: 0; font-size: 12px; } .card .what { color: var(--soft); font-size: 11px; margin: 0; }
.big { font-size: 29px; font-weight: 650; line-height: 1.1; margin: 7px 0 0; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.big.none { font-size: 18px; color: var(--warn); letter-spacing: 0; line-height: 1.7; }
.inr { font-size: 14px; color: var(--soft); margin: 0 0 6px; min-height: 20px; }
.card dl { display: grid; grid-template-columns: 1fr auto; gap: 1px 8px; margin: 6px 0 0; font-size: 11px; }
.card dt { color: var(--soft); } .card dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 22px; align-items: start; }
.two.wide { grid-template-columns: 0.9fr 1.1fr; }
.two > div > h3:first-child { margin-top: 10px; }
figure { margin: 4px 0 6px; break-inside: avoid; } figure svg { width: 100%; height: auto; display: block;
  overflow: visible; }
svg text { font-family: var(--sans) !important; }
table { border-collapse: collapse; width: 100%; margin: 6px 0 10px; font-size: 11.5px;
  font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; vertical-align: bottom; padding: 3px 0 3px 9px; font-size: 10.5px;
  line-height: 1.2; border-bottom: 1.5px solid var(--ink); }
td { text-align: right; padding: 3px 0 3px 9px; border-bottom: 1px solid var(--line); vertical-align: top; }
td { white-space: nowrap; }
th:first-child, td:first-child, th.t, td.t { text-align: left; white-space: normal; }
th:first-child, td:first-child { padding-left: 0; }
tr { break-inside: avoid; } thead { display: table-header-group; }
small { color: var(--soft); font-size: 10px; white-space: nowrap; }
.missing { border-left: 5px solid #d55e00; background: #fdf1e9; padding: 8px 13px; margin: 14px 0; }
.missing p { margin: 0 0 2px; font-weight: 600; } .missing ul { margin: 2px 0; padding-left: 18px; }
code { font: 11px/1.35 "Cascadia Mono", "DejaVu Sans Mono", Consolas, monospace; background: var(--wash);
  padding: 0 3px; overflow-wrap: anywhere; }
ol.advice { margin: 4px 0 0; padding-left: 20px; } ol.advice li { margin: 0 0 7px; break-inside: avoid; }
ol.advice b { display: block; }
.facts { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0 12px; border-top: 1px solid var(--line);
  border-bottom: 1px solid var(--line); margin: 12px 0; padding: 8px 0; }
.facts b { display: block; font-size: 17px; font-variant-numeric: tabular-nums; } .facts span { color: var(--soft);
  font-size: 11px; }
dl.inputs { display: grid; grid-template-columns: minmax(160px, 34%) 1fr; gap: 2px 12px; font-size: 11px; }
dl.inputs dd { margin: 0; } dl.inputs dt { color: var(--soft); overflow-wrap: anywhere; }
@media (max-width: 700px) { .cards, .two, .two.wide, .facts { grid-template-columns: 1fr; }
  section.sheet { padding: 20px 16px; overflow-x: auto; } }
@page { size: A4; margin: 13mm 13mm 14mm; }
@media print {
  body { background: #fff; font-size: 9.6pt; } main { max-width: none; }
  section.sheet { margin: 0; padding: 0; } section.sheet.first { break-after: page; }
  h2 { margin-top: 15pt; } h1 { font-size: 19pt; } .big { font-size: 21pt; } table { font-size: 8.4pt; }
  th { font-size: 7.8pt; } .cards { margin-top: 11pt; }
  .mark { display: block; position: fixed; inset: 0; z-index: 9; pointer-events: none; }
  .mark b { position: absolute; top: 44%; left: 0; right: 0; text-align: center; font-size: 78pt;
       color: rgba(184, 110, 0, 0.11); transform: rotate(-32deg); }
}
"""

"""Jobs on a system on a chip: tables, the Gantt chart, the page."""

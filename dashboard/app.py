"""The dashboard: `mergeboard dashboard`, or `streamlit run dashboard/app.py`. Reads the store and writes nothing."""

from dashboard.frame import main

main()

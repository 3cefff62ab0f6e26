"""Streamlit's script of the dashboard, which `mergeboard dashboard` starts. Reads the store and writes nothing."""

from dashboard.frame import main

main()

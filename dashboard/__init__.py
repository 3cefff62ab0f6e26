"""The Streamlit app: reads the store, writes nothing."""

is_server = False
"""Whether this process serves the dashboard; false where tests draw its pages."""

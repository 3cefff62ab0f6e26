"""The Streamlit app: reads the store, writes nothing."""

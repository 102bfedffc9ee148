"""The web page for whoever is on call: what is served, how it does, what moved, and what to do about it.

It asks a server over HTTP, as programs do, and reads the store, runs and data sets of this home. Streamlit
draws it; ``recray console`` starts it.
"""

SERVER, ADMIN_TOKEN = "RECRAY_CONSOLE_SERVER", "RECRAY_ADMIN_TOKEN"
"""Variables that say at which server it looks, and with which token it changes anything."""

"""schemas: the wire, as pydantic models of the OpenAI, TGI and Formwork formats; no behaviour."""

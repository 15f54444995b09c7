"""Embeddings through Tollway with OpenAI's SDK, and which of two texts is nearer to a question. `pip install openai`"""
import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("TOLLWAY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ["TOLLWAY_API_KEY"],
)
texts = ["Parcels arrive within three working days.", "Invoices are sent on the first day of a month."]
answer = client.embeddings.create(model="embed-sim", input=["When does my parcel arrive?", *texts])
question, *vectors = [item.embedding for item in answer.data]

for text, vector in zip(texts, vectors):
    print(f"{sum(a * b for a, b in zip(question, vector)):+.3f}  {text}")
print(answer.usage.prompt_tokens, "tokens,", len(question), "dimensions")

"""Chat through Tollway with OpenAI's SDK: only the base URL and the key differ. `pip install openai`"""
import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("TOLLWAY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ["TOLLWAY_API_KEY"],
    default_headers={"x-tollway-tags": "feature=support,customer=acme"},
)
question = [{"role": "user", "content": "Where is my parcel?"}]

# with_raw_response gives the headers too.
raw = client.chat.completions.with_raw_response.create(model="gpt-sim", messages=question, max_tokens=100)
print(raw.parse().choices[0].message.content)
print("deployment", raw.headers["x-tollway-deployment"], "cost", raw.headers["x-tollway-cost-usd"], "USD")

for chunk in client.chat.completions.create(model="gpt-sim", messages=question, stream=True):
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
print()

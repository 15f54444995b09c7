"""A bulk job over HTTP, with Python alone: submit, wait for the end, collect the results. Safe to run again after a crash."""
import hashlib, json, os, sys, time, urllib.request

URL = os.environ.get("TOLLWAY_URL", "http://127.0.0.1:8787")
TEXTS = ["Parcels arrive within three working days.", "Invoices are sent on the first day of a month."]


def call(method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers["Authorization"] = f"Bearer {os.environ['TOLLWAY_API_KEY']}"
    request = urllib.request.Request(URL + path, data=body, method=method, headers=headers)
    with urllib.request.urlopen(request) as answer:
        return answer.read()


lines = "".join(
    json.dumps({"custom_id": f"doc-{n}", "method": "POST", "url": "/v1/embeddings", "body": {"model": "embed-sim", "input": text}}) + "\n"
    for n, text in enumerate(TEXTS)
).encode()

# The same lines have the same key, so a second run finds the first one's job.
key = hashlib.sha256(lines).hexdigest()
job = json.loads(call("POST", "/api/v1/jobs?tags=feature=reindex", lines, Content_Type="application/jsonl", Idempotency_Key=key))
print("job", job["id"], file=sys.stderr)

while job["state"] not in ("completed", "cancelled", "expired"):
    time.sleep(0.5)
    job = json.loads(call("GET", f"/api/v1/jobs/{job['id']}"))

failed = 0
for line in call("GET", f"/api/v1/jobs/{job['id']}/results").splitlines():
    result = json.loads(line)
    if result["error"]:
        failed += 1
        print(result["custom_id"], "failed:", result["error"]["message"])
    else:
        print(result["custom_id"], len(result["response"]["body"]["data"][0]["embedding"]), "dimensions")
print("cost", job["cost_usd"], "USD")
sys.exit(1 if failed else 0)

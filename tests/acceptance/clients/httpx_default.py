"""httpx as it comes, with its 5 s timeout: `httpx_default.py BASE_URL QUESTION`; prints the answer."""

from __future__ import annotations

import sys

import httpx

BASE_URL, QUESTION = sys.argv[1:]
body = {"model": "sim-small", "messages": [{"role": "user", "content": QUESTION}]}
response = httpx.post(f"{BASE_URL}/chat/completions", json=body)
sys.stdout.write(response.raise_for_status().json()["choices"][0]["message"]["content"])

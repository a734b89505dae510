"""The draft's training step in PyTorch: the same sizes, batches, loss (kld) and optimiser; prints times.

Started by `draft_torch.py` with a Python that has torch: FILE.npz, STEPS, THREADS.
"""

import json
import sys
import time

import numpy as np
import torch
from torch.nn import functional


def norm(x, weight, eps):
    return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + eps) * weight


class Draft:
    def __init__(self, given):
        self.eps, self.layers = float(given["eps"]), int(given["layers"])
        self.parameters = {
            name.removeprefix("parameter."): torch.tensor(given[name], requires_grad=True)
            for name in given.files
            if name.startswith("parameter.")
        }
        self.embedding, self.rows, self.place = (
            torch.tensor(given[name]) for name in ("embedding", "rows", "place")
        )

    def unroll(self, state, along):
        p, states = self.parameters, []
        for embedded in along:
            x = torch.cat(
                [norm(state, p["norm_s.weight"], self.eps), norm(embedded, p["norm_e.weight"], self.eps)], -1
            )
            for layer in range(self.layers):
                at = f"layers.{layer}"
                if layer:
                    x = norm(state, p[f"{at}.norm.weight"], self.eps)
                gate, up = x @ p[f"{at}.gate.weight"].T, x @ p[f"{at}.up.weight"].T
                state = state + (functional.silu(gate) * up) @ p[f"{at}.down.weight"].T
            states.append(state)
        return norm(torch.stack(states), p["norm_o.weight"], self.eps) @ self.rows.T

    def loss(self, hidden, log_z, tokens, valid, decay, window):
        K = valid.shape[0]
        hidden = hidden.float()
        E = hidden.shape[-1]
        embedded = self.embedding[tokens.long()]
        along = torch.stack([embedded[:, k : k + window].reshape(-1, E) for k in range(1, K + 1)])
        draft = self.unroll(hidden[:, :window].reshape(-1, E), along)
        target = hidden @ self.rows.T - log_z[..., None]
        target = torch.stack(
            [target[:, k : k + window].reshape(-1, self.rows.shape[0]) for k in range(1, K + 1)]
        )
        log_p = functional.log_softmax(draft, dim=-1)
        each = (target.exp() * (target - log_p)).sum(dim=-1)
        weights = valid.reshape(K, -1) * (decay ** torch.arange(K))[:, None]
        return (each * weights).sum() / weights.sum()


def main():
    given, steps, threads = np.load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    draft = Draft(given)
    optimiser = torch.optim.AdamW(list(draft.parameters.values()), lr=1.0, weight_decay=0.01, eps=1e-8)
    batches = int(given["batches"])
    ready = [
        tuple(torch.tensor(given[f"{name}.{i}"]) for name in ("hidden", "log_z", "tokens", "valid"))
        for i in range(batches)
    ]
    times, losses = [], []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = float(given["rates"][step])
        wall, cpu = time.perf_counter(), time.process_time()
        optimiser.zero_grad()
        loss = draft.loss(*ready[step % batches], float(given["decay"]), int(given["window"]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(draft.parameters.values()), 1.0)
        optimiser.step()
        losses.append(float(loss))
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    print(json.dumps({"losses": losses, "times": times, "torch": torch.__version__}))


if __name__ == "__main__":
    main()

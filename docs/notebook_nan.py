"""Why the first notebook's loss was NaN from its second step: python docs/notebook_nan.py"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def losses(dtype: torch.dtype, eps: float) -> list[float]:
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=1000, **shape)).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=eps)
    chosen, rejected = torch.randint(0, 500, (2, 1, 16))  # tokens 500 to 999 are in no text: their gradient is zero
    start, seen = None, []
    for _ in range(4):
        chosen_logps, rejected_logps = (-model(ids, labels=ids).loss * 15 for ids in (chosen, rejected))
        margin = chosen_logps - rejected_logps
        start = margin.detach() if start is None else start
        loss = -torch.nn.functional.logsigmoid(0.1 * (margin - start).float())
        seen.append(round(loss.item(), 4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return seen


if __name__ == "__main__":
    print("fp16 weights, AdamW's eps 1e-8:", losses(torch.float16, 1e-8))
    print("fp16 weights, eps 1e-6:        ", losses(torch.float16, 1e-6))
    print("fp32 weights, eps 1e-8:        ", losses(torch.float32, 1e-8))

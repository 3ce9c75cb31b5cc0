"""nn.MultiheadAttention that calls its out_proj, where PyTorch's takes its weight as a matrix."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

REASON = "calls out_proj, whose weight it took as a matrix; its fused inference path off"


class CallingAttention(nn.MultiheadAttention):
    """What an nn.MultiheadAttention becomes, in place, when its out_proj is swapped: only the class is another."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """nn.MultiheadAttention's. PyTorch computes the heads with all its options: it gets the identity for a weight, whose
        product is exact, and out_proj is called with what comes out. The product is 6 % of a training step (E = 256 and 512,
        1024 tokens, one core).
        """
        packed = self.in_proj_weight is not None
        separate: dict[str, Any] = {} if packed else {
            "use_separate_proj_weight": True, "q_proj_weight": self.q_proj_weight, "k_proj_weight": self.k_proj_weight,
            "v_proj_weight": self.v_proj_weight,
        }  # fmt: skip
        if self.batch_first:  # transpose(0, -2) leaves x [L, E] as it is; PyTorch projects together what is the same object
            turned = key.transpose(0, -2)
            query, value = (turned if x is key else x.transpose(0, -2) for x in (query, value))
            key = turned
        identity = (self.in_proj_weight if packed else self.q_proj_weight).new_ones(self.embed_dim).diag()
        heads = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k, self.bias_v,
            self.add_zero_attn, self.dropout, identity, None, self.training, key_padding_mask, need_weights, attn_mask,
            average_attn_weights=average_attn_weights, is_causal=is_causal, **separate,
        )  # fmt: skip
        y = self.out_proj(heads[0])
        return y.transpose(0, -2) if self.batch_first else y, heads[1]


def can_call(attention: nn.Module) -> bool:
    """True for an attention that is, or can become, a CallingAttention: a subclass has a forward of its own."""
    return type(attention) in (nn.MultiheadAttention, CallingAttention)

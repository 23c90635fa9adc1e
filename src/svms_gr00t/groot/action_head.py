"""The flow-matching action head of N1.6 (Lipman et al. 2022, arXiv:2210.02747; time law of pi0, arXiv:2410.24164).

Axes: B batch, T observed tokens, M feature width, n state history, H horizon, Ds state width, Da action width, W DiT
width, K flow times, L tokens.

    x_tau = (1 - tau) noise + tau action,   target = action - noise,   tau = (1 - Beta(alpha, beta)) noise_s
    loss  = sum(mask (v(x_tau, floor(1000 tau)) - target)^2) / (sum(mask) + 1e-6)
    act:    x_0 = noise;  x += v(x, floor(1000 k / N)) / N   for k = 0 .. N-1

One `velocity` serves both. What depends only on the observation (`observe`) or on the time (`timing`) is made once.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from svms_gr00t.core.errors import DataError
from svms_gr00t.core.types import Features, ModelInputs
from svms_gr00t.groot.attention import KeysValues
from svms_gr00t.groot.config import Gr00tN1d6Config
from svms_gr00t.groot.dit import DiT, Modulation
from svms_gr00t.groot.embodiment import ActionEncoder, EmbodimentLinear, EmbodimentMLP, Rows, rows_of, sine_code
from svms_gr00t.groot.initial import init_weights, quieten


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """Exact simplifications; each can be switched off to get NVIDIA's plain computation."""

    gather: bool = True
    """Cross blocks read a gathered copy of their tokens instead of masking the others."""
    share_context: bool = True
    """The sampler makes keys and values once for each observation, not once for each step."""
    share_time: bool = True
    """The sampler makes the modulations of all its times at once, not of one time for each sample and step."""
    fold_time: bool = True
    """The time half of the action encoder's W2 is a bias, not a product repeated for each horizon step."""
    one_embodiment: bool = True
    """A batch of one embodiment uses its bank row as a matrix."""


PLAIN = Shortcuts(gather=False, share_context=False, share_time=False, fold_time=False, one_embodiment=False)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the denoising steps share."""

    context: tuple[KeysValues | None, ...]
    """Keys and values of the cross blocks."""
    state: Float[Tensor, "B n W"]
    """State tokens."""
    rows: Rows
    """Embodiments."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What depends on the flow time alone: one time for each sample, or N shared ones (see `Timing.step`)."""

    time: Int[Tensor, " K"]
    """Bucketed times."""
    modulation: Modulation
    """AdaLN halves."""
    action_bias: Float[Tensor, "_B _L W"] | None
    """Time part of the action encoder; None leaves it to the encoder."""

    def step(self, k: int) -> "Timing":
        """The k-th of N shared times."""
        bias = None if self.action_bias is None else self.action_bias[:, k : k + 1]
        return Timing(time=self.time[k : k + 1], modulation=self.modulation.at(k), action_bias=bias)


@dataclass(frozen=True, kw_only=True)
class FlowLoss:
    """The flow-matching loss and its pieces."""

    loss: Float[Tensor, ""]
    """Mean squared error over the masked elements, float32."""
    per_element: Float[Tensor, "B H Da"]
    """mask * squared error."""
    velocity: Float[Tensor, "B H Da"]
    """Predicted velocity."""


class ActionHead(nn.Module):
    """Features and state -> velocity of an action chunk."""

    def __init__(self, config: Gr00tN1d6Config) -> None:
        super().__init__()
        self.config, self.shortcuts = config, Shortcuts()
        self.kept: tuple[int, ...] | None = None
        self.remembered: tuple[tuple[object, ...], Timing] | None = None
        count, dim = config.max_num_embodiments, config.input_embedding_dim
        self.model = DiT(config)
        self.state_encoder = EmbodimentMLP(count, config.max_state_dim, config.hidden_size, dim)
        self.action_encoder = ActionEncoder(count, config.max_action_dim, dim)
        output = config.diffusion_model_cfg.output_dim
        self.action_decoder = EmbodimentMLP(count, output, config.hidden_size, config.max_action_dim)
        self.vlln = nn.LayerNorm(config.backbone_embedding_dim) if config.use_vlln else nn.Identity()
        if config.add_pos_embed:
            self.position_embedding = nn.Embedding(config.max_seq_len, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim)) if config.state_dropout_prob > 0 else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh weights; also the way to fill a head that was built on the meta device."""
        init_weights(self)
        for bank in self.banks():
            bank.reset_parameters()
        modulations = [block.norm1.linear.weight for block in self.model.blocks]
        quieten([*modulations, self.model.proj_out_1.weight, self.action_decoder.layer2.W])
        if self.mask_token is not None:
            self.mask_token.zero_()

    def banks(self) -> list[EmbodimentLinear]:
        """Every embodiment bank."""
        return [module for module in self.modules() if isinstance(module, EmbodimentLinear)]

    def keep_embodiments(self, *embodiments: int) -> None:
        """Hold only these rows of the embodiment banks as parameters; saving still writes every row.

        The banks are a quarter of the action head, and a robot uses one row. Call it once, after loading and before the
        optimiser is made. Raises `DataError` for an id without a row.
        """
        if self.kept is not None:
            raise DataError("keep_embodiments", got=f"kept {self.kept} before", want="one call", hint="load again")
        rows_of(torch.tensor(embodiments), self.config.max_num_embodiments)
        self.kept = embodiments
        for bank in self.banks():
            bank.keep(embodiments)

    def loss(
        self,
        features: Features,
        inputs: ModelInputs,
        *,
        noise: Float[Tensor, "B H Da"] | None = None,
        time: Float[Tensor, " B"] | None = None,
        generator: torch.Generator | None = None,
    ) -> FlowLoss:
        """Flow-matching loss of the recorded actions; noise and time (tau in [0, 1)) are drawn unless given.

        Raises `DataError` when the batch has no actions.
        """
        action = inputs.action
        if action is None:
            hint = "encode training samples with their actions"
            raise DataError("ModelInputs.action", got=None, want="the recorded action chunk (B, H, Da)", hint=hint)
        noise = gaussian(action.shape, action, generator) if noise is None else noise
        time = self.draw_time(action.shape[0], action.device, generator) if time is None else time
        mixed, target = on_path(noise, action, time)
        observation = self.observe(features, inputs.state, inputs.embodiment_id)
        timing = self.timing((time * self.config.num_timestep_buckets).long(), observation.rows)
        velocity = self.velocity(observation, mixed, timing)
        error = (velocity - target).square()
        mask = torch.ones_like(error) if inputs.action_mask is None else inputs.action_mask.to(error.dtype)
        per_element = error * mask
        return FlowLoss(loss=per_element.sum() / (mask.sum() + 1e-6), per_element=per_element, velocity=velocity)

    @torch.no_grad()
    def sample(
        self,
        features: Features,
        state: Float[Tensor, "B _n Ds"],
        embodiment_id: Int[Tensor, " B"],
        *,
        noise: Float[Tensor, "B H Da"] | None = None,
        generator: torch.Generator | None = None,
        schedule: Timing | None = None,
    ) -> Float[Tensor, "B H Da"]:
        """An action chunk by Euler steps from noise, normalised units.

        `schedule` is what `self.schedule` returned for this embodiment and these weights; without it that of the last
        call serves again, unless a weight has changed since.
        """
        steps, short = self.config.num_inference_timesteps, self.shortcuts
        observation = self.observe(features, state, embodiment_id)
        size = (state.shape[0], self.config.action_horizon, self.config.max_action_dim)
        actions = gaussian(size, observation.state, generator) if noise is None else noise
        if schedule is None and short.share_time:
            schedule = self.remembered_schedule(observation.rows)
        for k, bucket in enumerate(self.buckets()):
            if k and not short.share_context:
                observation = self.observe(features, state, embodiment_id)
            if schedule is None:
                timing = self.timing(embodiment_id.new_full((len(actions),), bucket), observation.rows)
            else:
                timing = schedule.step(k)
            actions = actions + self.velocity(observation, actions, timing).to(actions.dtype) / steps
        return actions

    def observe(
        self, features: Features, state: Float[Tensor, "B n Ds"], embodiment_id: Int[Tensor, " B"]
    ) -> Observation:
        """Everything about the observation that no denoising step changes."""
        short, known = self.shortcuts, None if features.layout is None else features.layout.embodiments
        count = self.config.max_num_embodiments
        rows = rows_of(embodiment_id, count, kept=self.kept, known=known, share=short.one_embodiment)
        seen = replace(features, tokens=self.vlln(features.tokens.to(self.dtype)))
        context = self.model.context(seen, gather=short.gather)
        tokens = self.encode_state(state.to(self.dtype), rows)
        if features.recalled is not None:
            tokens = tokens + features.recalled.offset[:, None].to(tokens.dtype)
        return Observation(context=context, state=tokens, rows=rows)

    def encode_state(self, state: Float[Tensor, "B n Ds"], rows: Rows) -> Float[Tensor, "B n W"]:
        """State tokens; training may hide them behind the mask token or add noise."""
        tokens = self.state_encoder(state, rows)
        if self.training and self.mask_token is not None:
            hide = torch.rand(len(tokens), 1, 1, device=tokens.device) < self.config.state_dropout_prob
            tokens = torch.where(hide, self.mask_token.to(tokens.dtype), tokens)
        if self.training and self.config.state_additive_noise_scale > 0:
            tokens = tokens + self.config.state_additive_noise_scale * torch.randn_like(tokens)
        return tokens

    def timing(self, time: Int[Tensor, " K"], rows: Rows, *, shared: bool = False) -> Timing:
        """Modulations at bucketed times: one for each sample, or with `shared` K times for all samples."""
        bias = None
        if self.shortcuts.fold_time:
            code = sine_code(time, self.config.input_embedding_dim).to(self.dtype)
            bias = self.action_encoder.time_bias(code[None] if shared else code[:, None], rows)
        return Timing(time=time, modulation=self.model.modulate(time), action_bias=bias)

    def schedule(self, rows: Rows) -> Timing:
        """The sampler's N times at once."""
        steps, device = self.config.num_inference_timesteps, rows.ids.device
        # Counted on the device: a list would have to travel there. As `buckets`, to the last bit.
        share = torch.arange(steps, dtype=torch.float64, device=device) / steps
        return self.timing((share * self.config.num_timestep_buckets).long(), rows, shared=True)

    def remembered_schedule(self, rows: Rows) -> Timing:
        """`schedule`, made anew only for other weights or another embodiment: acting asks for the same one again."""
        if rows.single is None:
            return self.schedule(rows)
        parts = [*self.model.timed_parameters(), self.action_encoder.W2.W, self.action_encoder.W2.b]
        if any(part.is_inference() for part in parts):  # these do not count their changes
            return self.schedule(rows)
        made_of = (rows.single, self.shortcuts, *((part.data_ptr(), part._version) for part in parts))
        if self.remembered is None or self.remembered[0] != made_of:
            self.remembered = made_of, self.schedule(rows)
        return self.remembered[1]

    def buckets(self) -> list[int]:
        """Bucketed time of each Euler step."""
        steps = self.config.num_inference_timesteps
        return [int(k / steps * self.config.num_timestep_buckets) for k in range(steps)]

    def velocity(
        self, observation: Observation, actions: Float[Tensor, "B H Da"], timing: Timing
    ) -> Float[Tensor, "B H Da"]:
        """Velocity of the flow at the noisy chunk `actions`."""
        sequence = self.sequence(observation, self.encode_actions(actions, timing, observation.rows))
        output = self.model(sequence, observation.context, timing.modulation)
        return self.action_decoder(output, observation.rows)[:, -actions.shape[1] :]

    def encode_actions(self, actions: Float[Tensor, "B H Da"], timing: Timing, rows: Rows) -> Float[Tensor, "B H W"]:
        """Action tokens, without positions."""
        actions = actions.to(self.dtype)
        if timing.action_bias is None:
            return self.action_encoder(actions, timing.time, rows)
        return self.action_encoder.encode(actions, timing.action_bias, rows)

    def sequence(self, observation: Observation, tokens: Float[Tensor, "B H W"]) -> Float[Tensor, "B _S W"]:
        """[state tokens, action tokens with their positions]."""
        if self.config.add_pos_embed:
            tokens = tokens + self.position_embedding.weight[: tokens.shape[1]]
        return torch.cat([observation.state, tokens], dim=1)

    def draw_time(
        self, count: int, device: torch.device | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, " B"]:
        """Flow times tau = (1 - Beta(alpha, beta)) noise_s, float32."""
        alpha, beta = self.config.noise_beta_alpha, self.config.noise_beta_beta
        where = device if generator is None else generator.device
        if beta == 1:  # inverse of the distribution function u = b^alpha
            drawn = torch.rand(count, device=where, generator=generator) ** (1 / alpha)
        else:
            x = torch._standard_gamma(torch.full((count,), alpha, device=where), generator=generator)
            drawn = x / (x + torch._standard_gamma(torch.full((count,), beta, device=where), generator=generator))
        return ((1 - drawn) * self.config.noise_s).to(device)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.state_encoder.layer1.W.dtype


def on_path(
    noise: Float[Tensor, "B H Da"], action: Float[Tensor, "B H Da"], time: Float[Tensor, " B"]
) -> tuple[Float[Tensor, "B H Da"], Float[Tensor, "B H Da"]]:
    """The point x_tau = (1 - tau) noise + tau action of the straight path, and its velocity d x_tau / d tau there."""
    tau = time[:, None, None].to(action.dtype)
    return (1 - tau) * noise + tau * action, action - noise


def gaussian(size: torch.Size | tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise, drawn where the generator lives, then moved to the device and type of `like`."""
    where = like.device if generator is None else generator.device
    return torch.randn(size, device=where, generator=generator).to(like.device, like.dtype)

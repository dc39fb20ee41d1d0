"""What a provider says that a call used, in one type whatever the provider's shape. Pure.

Shapes: OpenAI's chat usage and what LiteLLM makes of every other, OpenAI's Responses usage, Anthropic's, and
Gemini's `usageMetadata`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from spendmeter_gateway.litellm.fields import mapping, tokens
from spendmeter_gateway.model import UsageCounts


def counts_of(
    usage: Mapping[str, Any], *, input_tokens: int = 0, output_tokens: int = 0, total_tokens: int = 0
) -> UsageCounts:
    """The counts of a usage object; the numbers given beside it are LiteLLM's own and come first."""
    if "promptTokenCount" in usage or "candidatesTokenCount" in usage or "totalTokenCount" in usage:
        return _gemini(usage)
    ins = mapping(usage.get("prompt_tokens_details")) or mapping(usage.get("input_tokens_details"))
    outs = mapping(usage.get("completion_tokens_details")) or mapping(usage.get("output_tokens_details"))
    cache_read = tokens(usage.get("cache_read_input_tokens")) or tokens(ins.get("cached_tokens"))
    cache_write = tokens(usage.get("cache_creation_input_tokens")) or tokens(
        ins.get("cache_creation_tokens") or ins.get("cache_write_tokens")
    )
    given = input_tokens or tokens(usage.get("prompt_tokens")) or tokens(usage.get("input_tokens"))
    output = output_tokens or tokens(usage.get("completion_tokens")) or tokens(usage.get("output_tokens"))
    # LiteLLM and OpenAI include the cached tokens; a raw Anthropic usage, which some routes log, does not.
    is_raw = "prompt_tokens" not in usage and "input_tokens" in usage and "input_tokens_details" not in usage
    if is_raw or given < cache_read + cache_write:
        given += cache_read + cache_write
    left = given - cache_read - cache_write
    cached = mapping(ins.get("cached_tokens_details"))
    cached_audio = min(tokens(cached.get("audio_tokens")), cache_read)
    audio = min(max(0, tokens(ins.get("audio_tokens")) - cached_audio), left)
    image = min(max(0, tokens(ins.get("image_tokens")) - tokens(cached.get("image_tokens"))), left - audio)
    video = min(tokens(ins.get("video_tokens")), left - audio - image)
    reasoning = min(tokens(outs.get("reasoning_tokens")), output)
    output_audio = min(tokens(outs.get("audio_tokens")), output - reasoning)
    output_image = min(tokens(outs.get("image_tokens")), output - reasoning - output_audio)
    output_video = min(tokens(outs.get("video_tokens")), output - reasoning - output_audio - output_image)
    return UsageCounts(
        input_tokens=given,
        output_tokens=output,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=reasoning,
        total_tokens=max(total_tokens or tokens(usage.get("total_tokens")), given + output),
        cache_write_1h_tokens=min(_written_for_an_hour(usage, ins), cache_write),
        cache_read_audio_tokens=cached_audio,
        input_audio_tokens=audio,
        input_image_tokens=image,
        input_video_tokens=video,
        output_audio_tokens=output_audio,
        output_image_tokens=output_image,
        output_video_tokens=output_video,
        input_images=tokens(ins.get("image_count")),
        input_characters=tokens(ins.get("character_count")),
        queries=tokens(ins.get("query_count")),
    )


def usage_in_gemini(answer: object) -> UsageCounts | None:
    """The counts of an answer in Gemini's own shape, which has no `usage`; None of any other, or without."""
    # A dictionary, LiteLLM's model, or Google's, which has names of its own for the same.
    whole = answer.model_dump(by_alias=True) if isinstance(answer, BaseModel) else mapping(answer)
    counts = counts_of(mapping(whole.get("usageMetadata")))
    return counts if counts.input_tokens else None


def _written_for_an_hour(usage: Mapping[str, Any], ins: Mapping[str, Any]) -> int:
    for found in (ins.get("cache_creation_token_details"), usage.get("cache_creation")):
        if hour := tokens(mapping(found).get("ephemeral_1h_input_tokens")):
            return hour
    return 0


def _gemini(usage: Mapping[str, Any]) -> UsageCounts:
    given = tokens(usage.get("promptTokenCount")) + tokens(usage.get("toolUsePromptTokenCount"))
    reasoning = tokens(usage.get("thoughtsTokenCount"))
    output = tokens(usage.get("candidatesTokenCount")) + reasoning
    cache_read = min(tokens(usage.get("cachedContentTokenCount")), given)
    cached = _by_modality(usage.get("cacheTokensDetails"))
    ins, outs = (
        _by_modality(usage.get("promptTokensDetails")),
        _by_modality(usage.get("candidatesTokensDetails")),
    )
    cached_audio = min(cached.get("AUDIO", 0), cache_read)
    left = given - cache_read
    audio = min(max(0, ins.get("AUDIO", 0) - cached_audio), left)
    image = min(max(0, ins.get("IMAGE", 0) - cached.get("IMAGE", 0)), left - audio)
    video = min(max(0, ins.get("VIDEO", 0) - cached.get("VIDEO", 0)), left - audio - image)
    answer = output - reasoning
    output_audio = min(outs.get("AUDIO", 0), answer)
    output_image = min(outs.get("IMAGE", 0), answer - output_audio)
    return UsageCounts(
        input_tokens=given,
        output_tokens=output,
        cache_read_tokens=cache_read,
        reasoning_tokens=reasoning,
        total_tokens=max(tokens(usage.get("totalTokenCount")), given + output),
        cache_read_audio_tokens=cached_audio,
        input_audio_tokens=audio,
        input_image_tokens=image,
        input_video_tokens=video,
        output_audio_tokens=output_audio,
        output_image_tokens=output_image,
        output_video_tokens=min(outs.get("VIDEO", 0), answer - output_audio - output_image),
    )


def _by_modality(details: object) -> dict[str, int]:
    if not isinstance(details, list):
        return {}
    found: dict[str, int] = {}
    for detail in details[:16]:
        one = mapping(detail)
        name = one.get("modality")
        if isinstance(name, str):
            found[name.upper()] = found.get(name.upper(), 0) + tokens(one.get("tokenCount"))
    return found

"""Writing the tiny Gemma as a Hugging Face folder, laid out as published Gemma 2 folders are."""
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

from .functions import PREAMBLE
from .gemma_net import CONFIG
from .gemma_tokenizer import FUNCTION_PIECES, fixed_pieces

# Turns as in published Gemma 2 templates, which know no system role either. Where tools are given, a developer turn
# declares them in FunctionGemma's format; calls and responses of earlier turns are rendered from `tool_calls` and
# messages of role `tool`. Other roles stand as they are.
CHAT_TEMPLATE = r"""{%- macro value(v) -%}
    {%- if v is string -%}{{ '<escape>' + v + '<escape>' }}
    {%- elif v is boolean -%}{{ 'true' if v else 'false' }}
    {%- elif v is mapping -%}{{ '{' }}{%- for k, x in v | dictsort -%}{{ k + ':' }}{{ value(x) }}{{ ',' if not loop.last else '' }}{%- endfor -%}{{ '}' }}
    {%- elif v is sequence -%}{{ '[' }}{%- for x in v -%}{{ value(x) }}{{ ',' if not loop.last else '' }}{%- endfor -%}{{ ']' }}
    {%- else -%}{{ v }}{%- endif -%}
{%- endmacro -%}
{%- macro object(o) -%}
    {{ 'properties:{' }}
    {%- for k, p in o['properties'] | dictsort -%}
        {{ k + ':{description:' }}{{ value(p['description'] | default('')) }}
        {%- if p['properties'] is defined -%}{{ ',' }}{{ object(p) }}{%- endif -%}
        {%- if p['enum'] is defined -%}{{ ',enum:' }}{{ value(p['enum']) }}{%- endif -%}
        {{ ',type:' }}{{ value(p['type'] | upper) }}{{ '}' }}{{ ',' if not loop.last else '' }}
    {%- endfor -%}
    {{ '}' }}{%- if o['required'] is defined -%}{{ ',required:' }}{{ value(o['required']) }}{%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- if messages[0]['role'] == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}
{%- if tools -%}
    {{ '<start_of_turn>developer\nPREAMBLE' }}
    {%- for tool in tools -%}
        {%- set f = tool['function'] -%}
        {{ '<start_function_declaration>declaration:' + f['name'] + '{description:' }}{{ value(f['description'] | default('')) }}
        {%- if f['parameters'] and f['parameters']['properties'] -%}
            {{ ',parameters:{' }}{{ object(f['parameters']) }}{{ ',type:<escape>OBJECT<escape>}' }}
        {%- endif -%}
        {{ '}<end_function_declaration>' }}
    {%- endfor -%}
    {{ '<end_of_turn>\n' }}
{%- endif -%}
{%- set ns = namespace(open=false) -%}
{%- for message in messages -%}
    {%- if message['role'] == 'tool' -%}
        {{ '<start_function_response>response:' + (message['name'] | default('tool')) }}
        {%- if message['content'] is mapping -%}{{ value(message['content']) }}
        {%- else -%}{{ '{value:' }}{{ value(message['content']) }}{{ '}' }}{%- endif -%}
        {{ '<end_function_response>' }}
    {%- else -%}
        {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
        {%- if not ns.open -%}{{ '<start_of_turn>' + role + '\n' }}{%- endif -%}
        {%- if message['content'] -%}{{ message['content'] | trim }}{%- endif -%}
        {%- for call in message['tool_calls'] or [] -%}
            {%- set f = call['function'] -%}
            {{ '<start_function_call>call:' + f['name'] }}{{ value(f['arguments']) }}{{ '<end_function_call>' }}
        {%- endfor -%}
        {#- The response to a call belongs to the same turn. -#}
        {%- set ns.open = loop.nextitem is defined and loop.nextitem['role'] == 'tool' -%}
        {%- if not ns.open -%}{{ '<end_of_turn>\n' }}{%- endif -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not ns.open -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
""".replace("PREAMBLE", PREAMBLE).strip()
TURNS = ["<start_of_turn>", "<end_of_turn>"]


def _token(text):
    return {"content": text, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}


def _json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def tokenizer_config():
    """tokenizer_config.json: every fixed piece is listed, the function pieces as ordinary text."""
    special = {"<pad>", "<eos>", "<bos>", "<unk>", *TURNS}
    added = {str(i): {**_token(p), "special": p in special}
             for i, p in enumerate(fixed_pieces()) if p in special or p in FUNCTION_PIECES or not p.strip("\n\u2581")}
    return {
        "add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": added,
        "additional_special_tokens": TURNS, "bos_token": "<bos>", "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False, "eos_token": "<eos>", "model_max_length": CONFIG["max_position_embeddings"],
        "pad_token": "<pad>", "sp_model_kwargs": {}, "spaces_between_special_tokens": False,
        "tokenizer_class": "GemmaTokenizer", "unk_token": "<unk>", "use_default_system_prompt": False,
    }


def weights(folder):
    """The state dict of a folder that save_folder wrote, in float32."""
    return {name: t.float() for name, t in load_file(folder / "model.safetensors").items()}


def save_folder(folder, state_dict, tokenizer):
    """Weights (as bfloat16), config and tokenizer; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _json(folder / "config.json", CONFIG)
    _json(folder / "generation_config.json", {"_from_model_config": True, "bos_token_id": 2, "eos_token_id": [1, 107],
                                              "pad_token_id": 0})
    _json(folder / "tokenizer_config.json", tokenizer_config())
    _json(folder / "special_tokens_map.json", {
        "additional_special_tokens": TURNS, "bos_token": _token("<bos>"), "eos_token": _token("<eos>"),
        "pad_token": _token("<pad>"), "unk_token": _token("<unk>")})
    shutil.copyfile(tokenizer, folder / "tokenizer.model")
    part = folder / ".model.part"
    save_file({name: t.detach().to(torch.bfloat16).contiguous() for name, t in state_dict.items()}, part,
              metadata={"format": "pt"})
    os.chmod(part, 0o644)
    os.replace(part, folder / "model.safetensors")

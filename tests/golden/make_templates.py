#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/chat_templates.json: chat templates, conversations, and what jinja2 makes of them.

usage: make_templates.py [--check]     needs the package jinja2; --check compares with the file instead

The environment is set up as transformers sets it up for chat templates. The templates are written for this test, in
the shapes that public models use: ChatML, turns, headers, [INST], tools, thinking parts.
"""
import json
import pathlib
import sys

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

PATH = pathlib.Path(__file__).resolve().parent.parent / "data" / "chat_templates.json"

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a careful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
TURNS = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Roles must take turns: user, assistant, user, assistant, ...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Unknown content") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""
HEADERS = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- The system message comes out first, so that the loop below does not see it. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none and tools is defined %}
    {{- "Environment: ipython\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One tool call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""
INST = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
THINKING = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in message.content %}
                {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
                {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or (not loop.last and reasoning_content)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
MACROS = """{%- macro type_of(spec) -%}
    {%- if spec.type == "array" -%}
        {{- type_of(spec["items"]) }}[]
    {%- elif spec.type == "object" -%}
        {
        {%- for name, part in spec.properties.items() -%}
            {{ name }}{{ "" if name in spec.get("required", []) else "?" }}: {{ type_of(part) }}
            {%- if not loop.last %}, {% endif %}
        {%- endfor -%}
        }
    {%- elif spec.enum is defined -%}
        {%- for value in spec.enum -%}
            "{{ value }}"{% if not loop.last %} | {% endif %}
        {%- endfor -%}
    {%- else -%}
        {{ spec.type }}
    {%- endif -%}
{%- endmacro -%}
{%- macro turn(role, content, end="<end>") -%}
    <{{ role }}>{{ content|trim }}{{ end }}
{%- endmacro -%}
{%- for tool in tools %}
{{ tool.name }}: {{ type_of(tool.parameters) }}
{%- endfor %}
{% for message in messages %}
{{ turn(message.role, message.content) if not loop.last else turn(content=message.content, role="last", end=eos_token) }}
{% endfor %}
"""
SELECT = """{%- set system = messages | selectattr("role", "equalto", "system") | map(attribute="content") | join("\n") -%}
{%- set rest = messages | rejectattr("role", "eq", "system") | list -%}
{%- if system %}[{{ system }}]{% endif -%}
{%- for m in rest if m.role != "tool" -%}
{{ loop.index }}/{{ loop.length }} {{ m.role | upper }}: {{ m.content }}
{%- if not loop.last %}{{ " -> " ~ loop.nextitem.role }}{% endif %}
{% else %}nobody speaks
{% endfor -%}
{{ rest | length }}"""

HELLO = [{"role": "user", "content": "Hello!"}]
TALK = [{"role": "system", "content": " Be brief. \n"}, {"role": "user", "content": "  What is a gate?\n"},
        {"role": "assistant", "content": "A switch.  "}, {"role": "user", "content": "And <|im_end|> \"quotes\" \u00e9\u4e2d?"}]
WRONG = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
PARTS = [{"role": "system", "content": [{"type": "text", "text": "S"}]},
         {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " look "}]}]
TOOLS = [{"type": "function", "name": "add", "parameters": {
    "type": "object", "required": ["a"], "properties": {
        "a": {"type": "integer"}, "b": {"type": "array", "items": {"type": "string", "enum": ["x", "\u00fc"]}},
        "o": {"type": "object", "properties": {"deep": {"type": "array", "items": {
            "type": "array", "items": {"type": "number"}}}}}}}}, {"type": "function", "name": "now", "parameters": {
                "type": "object", "properties": {}}}]
CALLS = [{"role": "user", "content": "add 1 and 2"},
         {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {
             "name": "add", "arguments": {"a": 1, "b": ["x"], "c": {"d": None, "e": 1.5, "f": True}}}}]},
         {"role": "tool", "content": "3"}, {"role": "assistant", "content": "<think>\nit is 3\n</think>\n\n3"}]
LONG = [{"role": "user" if i % 2 == 0 else "assistant", "content": f"turn {i}"} for i in range(40)]

# Small ones: one construct each. `d`, `l`, `s`, `n` are defined.
SMALL = [
    # Whitespace.
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "a\n  {% if true %}  \n  b\n  {% endif %}\n c",
    "a {%- if true -%} b {%- endif -%} c",
    "  {%+ if true %}x{% endif +%}\n y",
    "{{ 1 -}}   \n  {{- 2 }}",
    "{# c #}\nx {#- c -#} y{# {{ 1 }} #}z",
    "  {# c #}\n  x",
    "{% raw %}{{ not }} {% if %}{% endraw %}!",
    "{%- raw -%}  {{ x }}  {%- endraw -%}  !",
    "x\n\n",
    "x\r\ny\rz\n",
    "\n\n{{ 1 }}\n\n",
    "{% for i in [1,2] %}\n{{ i }}\n{% endfor %}\n",
    "{% for i in [1,2] -%}\n  {{ i }}\n{%- endfor %}",
    "{{ '{{' }}{{ '%}' }}",
    "{ { % }",
    "{% set x = 1 %}\n{% set y = 2 %}\n{{ x + y }}",
    "a{{ 1 }}\n  {{ 2 }}\nb",
    "{%- set x -%}  k  {%- endset -%}[{{ x }}]",
    "<\t{%- if true %}\t{% endif %}>",
    "x\n{{- 1 -}}\ny",
    "{{ 1 }}{#-#}  {{ 2 }}",
    "  {%- if true %}\n\n  a{% endif %}",
    # Literals and operators.
    "{{ 1 + 2 * 3 - 4 // 3 }}",
    "{{ 7 / 2 }} {{ 6 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }}",
    "{{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }}",
    "{{ 1.5 + 1 }} {{ 1e3 }} {{ 1.0 }} {{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e15 }} {{ 1e-5 }} {{ 1_000 }}",
    "{{ -2 ** 2 }} {{ -n }} {{ +n }} {{ - -n }}",
    "{{ 'a' 'b' ~ 1 ~ none ~ true }}",
    "{{ 'a\\nb\\t\\\\\\'\\\"\\x41\\u00e9' }}",
    "{{ \"it's\" }}",
    "{{ [1, 'a', none, true, 1.5, {'k': (1,)}] }}",
    "{{ {'a': 1, 'b': [1, 2], 2: 'x'} }} {{ () }} {{ (1, 2) }} {{ [] }}",
    "{{ ['it\\'s', 'q\"', 'b\\\\', 'n\\n'] }}",
    "{{ true and 0 or 'x' }} {{ not 1 }} {{ not not 1 }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ true == 1 }}",
    "{{ 'a' if n > 3 else 'b' }} {{ 'c' if false }}|",
    "{{ 1 if false else 2 if false else 3 }}",
    "{{ 'b' in 'abc' }} {{ 2 in [1, 2] }} {{ 'k' in d }} {{ 'z' not in d }} {{ '' in 'a' }}",
    "{{ 'x' * 3 }} {{ 2 * [1, 2] }} {{ 'x' * -1 }}|",
    "{{ [1] + [2] }} {{ (1,) + (2,) }}",
    "{{ 10 ** 15 }} {{ 9223372036854775807 }}",
    "{{ True }} {{ False }} {{ None }}",
    "{{ (1 + 2) * 3 }} {{ ((1)) }}",
    "{{ -1|abs }} {{ 3 - -1|abs }}",
    "{{ 'a' ~ 'b' * 2 }} {{ 1 ~ 2 + 3 }}",
    # Access.
    "{{ d.k }} {{ d['k'] }} {{ d.nope }}| {{ l[0] }} {{ l[-1] }} {{ l[9] }}| {{ s[1] }} {{ l.0 }}",
    "{{ l[1:] }} {{ l[:-1] }} {{ l[::-1] }} {{ l[::2] }} {{ l[5:] }} {{ l[-2:] }}",
    "{{ s[1:3] }} {{ s[::-1] }} {{ s[-3:] }} {{ 'h\u00e9\u4e2d\U0001f600'[1:3] }}",
    "{{ l[-100:100] }} {{ l[2:0:-1] }} {{ l[100:-100:-2] }}",
    "{{ d.items() | list }} {{ d.keys() | list }} {{ d.values() | list }}",
    "{{ d.get('k') }} {{ d.get('z') }} {{ d.get('z', 4) }}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{{ d.format is defined }} {{ d.append is defined }} {{ d.index is defined }} {{ l.format is defined }}",
    "{{ 'x'.nope is defined }} {{ n.nope is defined }}",
    "{{ {'items': 5}['items'] }} {{ {'a b': 1}['a b'] }}",
    "{{ nothing is defined }} {{ nothing }}|{{ nothing | default('x') }}",
    # Methods of texts.
    "{{ '  a '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'xyaxy'.lstrip('yx') }}|{{ 'a\\n\\n'.rstrip('\\n') }}|{{ ' a '.lstrip() }}|",
    "{{ 'a,b,,c'.split(',') }} {{ 'a  b c'.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a b c'.split(None, 1) }}",
    "{{ 'a,b,c'.rsplit(',', 1) }} {{ 'aXXXb'.split('XX') }} {{ 'aXXXb'.rsplit('XX', 1) }} {{ ''.split(',') }} {{ ''.split() }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.startswith('') }}",
    "{{ 'aBc \u00e9\u00c9 1'.upper() }} {{ 'aBc \u00c9'.lower() }} {{ 'hello wORLD'.title() }} {{ 'hELLO w'.capitalize() }}",
    "{{ 'aaa'.replace('a', 'b') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'ab'.replace('', '-') }}",
    "{{ 'abcabc'.find('c') }} {{ 'abcabc'.rfind('c') }} {{ 'abc'.find('z') }} {{ 'ababab'.count('ab') }} {{ '\u00e9a'.find('a') }} {{ 'abc'.count('') }}",
    "{{ ', '.join(['a', 'b']) }} {{ '12'.isdigit() }} {{ 'a1'.isdigit() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {{ 'A'.isupper() }} {{ 'a'.islower() }}",
    "{{ 'a\\nb\\n'.splitlines() }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }}",
    "{{ [1, 2, 1].index(2) }} {{ [1, 2, 1].count(1) }}",
    "{{ ('a' * 40 ~ 'b' ~ 'a' * 40).find('a' * 20 ~ 'b' ~ 'a' * 20) }} {{ ('ab' * 30).rfind('ba' * 10) }} {{ ('ab' * 30).count('ab' * 10) }} {{ ('ab' * 30 ~ 'c').split('ab' * 9 ~ 'abc') | length }}",
    # Filters.
    "{{ '  x ' | trim }}| {{ 'xax' | trim('x') }} {{ 'aB' | upper }} {{ 'aB' | lower }} {{ 'ab cd-ef (gh' | title }} {{ 'aBC' | capitalize }}",
    "{{ s | length }} {{ l | length }} {{ d | length }} {{ 'h\u00e9\U0001f600' | count }} {{ nothing | length }}",
    "{{ l | join(', ') }} {{ l | join }} {{ [{'a': 1}, {'a': 2}] | join('+', attribute='a') }}",
    "{{ l | first }} {{ l | last }} {{ s | first }} {{ s | last }} {{ [] | first }}|",
    "{{ l | reverse | list }} {{ s | reverse }} {{ 'ab' | list }}",
    "{{ [3, 1, 2] | sort }} {{ ['b', 'A', 'c'] | sort }} {{ ['b', 'A'] | sort(case_sensitive=true) }} {{ [1, 2] | sort(reverse=true) }} {{ [{'a': 2}, {'a': 1}] | sort(attribute='a') }}",
    "{{ ['a', 'A', 'b'] | unique | list }} {{ {'b': 1, 'a': 2} | dictsort }} {{ {'b': 1, 'a': 2} | dictsort(by='value') }}",
    "{{ ['a', 'b'] | map('upper') | list }} {{ [{'a': {'b': 1}}] | map(attribute='a.b') | list }} {{ [{'a': 1}, {}] | map(attribute='a', default=0) | list }} {{ ['a-b'] | map('replace', '-', '+') | list }}",
    "{{ [1, 2, 3] | select('odd') | list }} {{ [1, 2, 3] | reject('gt', 1) | list }} {{ ['', 'x'] | select | list }} {{ [{'a': 1}, {'a': 0}] | selectattr('a') | list }}",
    "{{ [{'a': 1}, {}] | selectattr('a', 'defined') | list }} {{ [{'a': 'x'}, {'a': 'y'}] | rejectattr('a', 'in', ['x']) | list }}",
    "{{ d | tojson }} {{ 'q\"<>&\\'\u00e9\\n\\x01' | tojson }} {{ [1.0, 1e20, none, true, 'x'] | tojson }}",
    "{{ d | tojson(indent=2) }}",
    "{{ {'b': 1, 'a': [1, {}], 'c': []} | tojson(indent=2, sort_keys=true) }} {{ ['\u00e9\U0001f600'] | tojson(ensure_ascii=true) }} {{ [1, {'a': 2}] | tojson(separators=(',', ':')) }}",
    "{{ {1: 2, none: 3, true: 4} | tojson }}",
    "{{ '12' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 3.9 | int }} {{ '3.7' | int }} {{ ' 4 ' | int }} {{ '1.5' | float }} {{ 2 | float }} {{ none | string }} {{ 1.5 | string }}",
    "{{ 'a\\nb\\n\\nc' | indent }}|{{ 'a\\nb' | indent(2, true) }}|{{ 'a\\n\\nb' | indent(width=2, blank=true) }}",
    "{{ 2.5 | round }} {{ 3.14159 | round(2) }} {{ 2.1 | round(method='ceil') }} {{ 2.9 | round(0, 'floor') }} {{ 42 | round }} {{ -1.5 | abs }}",
    "{{ [1, 2, 3] | sum }} {{ [{'a': 1.5}] | sum(attribute='a') }} {{ [3, 1] | min }} {{ ['a', 'c'] | max }} {{ [] | sum }}",
    "{{ 'a-a' | replace('a', 'b') }} {{ 'aaa' | replace('a', 'b', 1) }} {{ none | default('x') }} {{ none | default('x', true) }} {{ '' | d('y', true) }} {{ d | items | list }} {{ '<b>' | safe }}",
    "{{ ['b', 'A', 'C'] | min }} {{ ['b', 'A', 'C'] | max }} {{ ['b', 'A'] | max(case_sensitive=true) }} {{ [{'a': 2}, {'a': 1}] | min(attribute='a') }}",
    "{{ 'a' | upper('b') }}",
    "{{ 'a' | default('b', true, 1) }}",
    # Tests.
    "{{ n is number }} {{ s is string }} {{ d is mapping }} {{ l is sequence }} {{ s is iterable }} {{ none is none }} {{ n is odd }} {{ n is even }} {{ true is boolean }} {{ true is true }} {{ 1 is true }} {{ 1 is integer }} {{ 1.0 is float }}",
    "{{ n is divisibleby 5 }} {{ n is divisibleby(3) }} {{ n is eq 5 }} {{ n is ne(4) }} {{ n is gt 4 }} {{ n is le 5 }} {{ n is in [5] }} {{ n is sameas n }} {{ 'a' is lower }} {{ 'a' is upper }}",
    "{{ x is not defined }} {{ n is not none }} {{ x is undefined and n is defined }} {{ not x is defined }} {{ range is callable }}",
    "{{ d.k is defined and d.k == 'v' }} {{ d.k is string and true }} {{ 'y' if d.z is defined else 'n' }}",
    # Statements.
    "{% for i in range(3) %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %} {{ range(2, 8, 3) | list }} {{ range(3, 0, -1) | list }}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }} {% endfor %}",
    "{% for i in [1,2,3] %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {{ loop.cycle('a', 'b') }};{% endfor %}",
    "{% for i in [] %}x{% else %}none{% endfor %} {% for i in nothing %}x{% else %}none{% endfor %}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }};{% endfor %} {% for k in d %}{{ k }}{% endfor %} {% for c in 'ab' %}<{{ c }}>{% endfor %}",
    "{% for i in [1, 2, 3, 4] if i is even %}{{ loop.index }}:{{ i }}/{{ loop.length }} {% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 10 %}{{ x }} {% endfor %}{{ x }}",
    "{% set ns = namespace(x=1, y='a') %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.z is defined }}",
    "{% if true %}{% set x = 5 %}{% endif %}{{ x }} {% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}{{ x | length }}",
    "{% if n == 1 %}1{% elif n == 5 %}five{% else %}?{% endif %}",
    "{% macro m(a, b='B', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(c=3, a=4) }}{{ m() }}",
    "{% macro f(k) %}{{ k }}{% if k > 0 %}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% set x = 'out' %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% set x = 'new' %}{{ m() }}",
    "{% macro m(x) %}{% set x = x ~ '!' %}{{ x }}{% endmacro %}{{ m('a') }}{{ x }}|",
    "{% set f = d.get %}{{ f('k') }}",
    "{% generation %}made {{ n }}{% endgeneration %}",
    "{{ dict(a=1, b=2) }} {{ dict({'a': 1}, b=3) }}",
    "{% for i in [1] %}{% for j in [1, 2] %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for m in messages %}{{ m.role }}{% set role = m.role %}{% endfor %}{{ role is defined }}",
    "{{ messages | map(attribute='role') | join(',') }} {{ messages[-1].content }} {{ messages | length }}",
    "{% if messages %}{{ messages[0]['content'][:5] }}{% endif %}{{ add_generation_prompt }}{{ bos_token }}{{ eos_token }}",
    "{%- for i in range(3) -%}\n  {%- if i > 0 %}, {% endif -%}\n  {{ i }}\n{%- endfor -%}\n",
    "{% for i in range(2) %}{% set x = i %}{{ x }}{% endfor %}{{ x is defined }}",
    "{{ ([1, 2, 3] | length) + 1 }} {{ [1, 2, 3]|length > 2 }} {{ 'a,b'.split(',')|last|upper }}",
    # Refusals of the template itself.
    "{{ raise_exception('no ' ~ n) }}",
    "{{ nothing.x }}",
    "{{ nothing.x.y }}",
    "{{ none.x.y }}",
    "{{ 1 + 'a' }}",
    "{{ nothing() }}",
    "{{ 1 // 0 }}",
    "{{ l['k'].x }}",
    "{{ none + 1 }}",
    "{{ [1] < ['a'] }}",
    "{% for i in 5 %}{% endfor %}",
    "{% for a, b in [[1]] %}{% endfor %}",
    "{{ 'a'.split('') }}",
    "{{ [].index(1) }}",
    "{% set d.x = 1 %}",
    "{{ l | join(1, 2, 3, 4) }}",
    "{{ n | length }}",
    "{{ l | tojson(separators=1) }}",
]


class Generation(jinja2.ext.Extension):
    """{% generation %}, as transformers has it, without the bookkeeping."""
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def environment(now):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    if now:
        made.globals["strftime_now"] = lambda form: now
    return made


def render(name, template, messages, prompt=True, now=None, **variables):
    row = {"name": name, "template": template, "messages": messages, "add_generation_prompt": prompt,
           "variables": dict(variables)}
    if now:
        row["variables"]["strftime_now"] = now
    try:
        row["expected"] = environment(now).from_string(template).render(
            messages=messages, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>", **variables)
    except Exception as error:  # whatever Python raises, here it is a refusal
        row["refused"] = f"{type(error).__name__}: {error}"
    return row


def build():
    rows = []
    shapes = {"chatml": CHATML, "turns": TURNS, "headers": HEADERS, "inst": INST, "thinking": THINKING, "select": SELECT}
    for shape, template in shapes.items():
        for talk_name, talk in {"hello": HELLO, "talk": TALK, "wrong": WRONG, "long": LONG}.items():
            rows.append(render(f"{shape}_{talk_name}", template, talk, prompt=talk_name != "long"))
    rows.append(render("turns_parts", TURNS, PARTS))
    rows.append(render("headers_tools", HEADERS, CALLS, tools=TOOLS))
    rows.append(render("headers_date", HEADERS, HELLO, date_string="1 Jan 2030"))
    rows.append(render("headers_clock", HEADERS, HELLO, now="02 Feb 2031"))
    rows.append(render("thinking_tools", THINKING, CALLS, tools=TOOLS))
    rows.append(render("thinking_off", THINKING, CALLS, enable_thinking=False))
    rows.append(render("macros", MACROS, TALK, tools=TOOLS))
    rows.append(render("select_nobody", SELECT, TALK[:1]))
    for i, template in enumerate(SMALL):
        rows.append(render(f"small_{i:03}", template, TALK, d={"k": "v", "list": [1, 2]}, l=["a", "b", "c"], s="text",
                           n=5))
    return rows


def main():
    text = "[\n" + ",\n".join(json.dumps(row) for row in build()) + "\n]\n"
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PATH.read_text() == text else f"{PATH}: other texts than those of this jinja2")
    PATH.write_text(text)


if __name__ == "__main__":
    main()

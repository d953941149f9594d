"""Fine-tuning of a small transformer with LoRA: ``python finetune.py``. It creates the model and downloads nothing.

The model first learns the more frequent of two tokens in a sentence, then, with few additional weights, the opposite.
"""

from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

RUN = Path("runs/finetune")
LENGTH = 16


def make_sentences(count: int, seed: int, *, is_opposite: bool) -> Dataset:
    """Return sentences of the tokens 1 and 2, with label 1 for more tokens 1 (or, opposite, 0)."""
    tokens = torch.randint(1, 3, (count, LENGTH), generator=torch.Generator().manual_seed(seed))
    has_more = (tokens == 1).sum(1) > LENGTH // 2
    return Dataset.from_dict(
        {"input_ids": tokens.tolist(), "labels": (has_more ^ is_opposite).long().tolist()}
    )


def make_model() -> BertForSequenceClassification:
    """Return an untrained BERT of two layers."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=3,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def train(model: torch.nn.Module, sentences: Dataset, steps: int) -> None:
    """Train with transformers' Trainer, which writes scalars for TensorBoard."""
    arguments = TrainingArguments(
        output_dir=str(RUN),
        max_steps=steps,
        per_device_train_batch_size=32,
        learning_rate=3e-3,
        logging_steps=20,
        save_strategy="no",
        report_to="tensorboard",
        disable_tqdm=True,
        seed=0,
    )
    Trainer(model=model, args=arguments, train_dataset=sentences).train()


def accuracy(model: torch.nn.Module, sentences: Dataset) -> float:
    """Return the share of correct labels."""
    device = next(model.parameters()).device
    tokens = torch.tensor(sentences["input_ids"], device=device)
    labels = torch.tensor(sentences["labels"], device=device)
    model.eval()
    with torch.no_grad():
        return (model(input_ids=tokens).logits.argmax(1) == labels).float().mean().item()


def main() -> None:
    """Train the base, fine-tune it, and load the saved files."""
    torch.set_num_threads(1)  # more threads are slower for a small model
    test = make_sentences(500, 1, is_opposite=True)
    base = make_model()
    train(base, make_sentences(2_000, 2, is_opposite=False), steps=150)
    base.save_pretrained(RUN / "base")
    print(f"before fine-tuning: {accuracy(base, test):.0%} right")

    lora = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    tuned = get_peft_model(base, lora)
    share = tuned.num_parameters(only_trainable=True) / tuned.num_parameters()
    train(tuned, make_sentences(2_000, 3, is_opposite=True), steps=150)
    print(f"after training {share:.0%} of the weights: {accuracy(tuned, test):.0%} right")

    tuned.save_pretrained(RUN / "adapter")
    again = PeftModel.from_pretrained(
        BertForSequenceClassification.from_pretrained(RUN / "base"), RUN / "adapter"
    )
    print(f"loaded from base and adapter: {accuracy(again, test):.0%} right")


if __name__ == "__main__":
    main()

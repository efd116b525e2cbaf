# A function with a layer that `minimize publish` has published, for Terraform:
#
#   arn=$(minimize publish layer.zip --name pillow --runtime python3.12 --architecture x86_64)
#   terraform init && terraform apply -var "layer_arn=$arn"
#
# The layer itself is no resource here: Terraform would delete the version which older functions still use.
terraform {
  required_version = ">= 1.3"
  required_providers {
    archive = {
      source  = "hashicorp/archive"
      version = "~> 2.4"
    }
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.31"
    }
  }
}

variable "layer_arn" {
  description = "The ARN of the layer's version, as `minimize publish` prints it"
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:lambda:[a-z0-9-]+:[0-9]{12}:layer:[a-zA-Z0-9_-]+:[0-9]+$", var.layer_arn))
    error_message = "The ARN must end with the version: arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION."
  }
}

data "archive_file" "function" {
  type        = "zip"
  source_dir  = "${path.module}/function"
  output_path = "${path.module}/out/function.zip"
}

resource "aws_iam_role" "function" {
  name_prefix = "minimized-layer-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Action    = "sts:AssumeRole"
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "logs" {
  role       = aws_iam_role.function.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

resource "aws_lambda_function" "function" {
  function_name    = "minimized-layer"
  filename         = data.archive_file.function.output_path
  source_code_hash = data.archive_file.function.output_base64sha256
  handler          = "handler.handler"
  # The runtime and the architecture that the layer was made and published for.
  runtime       = "python3.12"
  architectures = ["x86_64"]
  layers        = [var.layer_arn]
  memory_size   = 512
  timeout       = 30
  role          = aws_iam_role.function.arn
}

output "function_name" {
  value = aws_lambda_function.function.function_name
}

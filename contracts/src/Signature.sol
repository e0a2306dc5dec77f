// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title Whether an account signed
library Signature {
    /// @dev Gas for a smart wallet's answer: one check of a passkey by precompile, or of some owners, fits; a batch of
    /// wallets that burn all of it still stays below the chain's limit of a transaction.
    uint256 private constant WALLET_GAS = 100_000;

    /// @notice By key first, so that an account with delegated code (EIP-7702) signs as before; else the account's own
    /// code is asked (EIP-1271).
    function isBy(address account, bytes32 digest, bytes calldata signature) internal view returns (bool) {
        address signer = signerOf(digest, signature);
        if (signer != address(0) && signer == account) return true;
        return isByWallet(account, digest, signature);
    }

    /// @notice Whose key signed, in 65 bytes or in 64 as in ERC-2098; 0 where no key did.
    function signerOf(bytes32 digest, bytes calldata signature) internal pure returns (address signer) {
        if (signature.length == 65) {
            (signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        } else if (signature.length == 64) {
            (signer,,) = ECDSA.tryRecover(digest, bytes32(signature[0:32]), bytes32(signature[32:64]));
        }
    }

    /// @notice Whether the code of `account` says that it signed; no account without code does.
    function isByWallet(address account, bytes32 digest, bytes calldata signature) internal view returns (bool ok) {
        if (account.code.length == 0) return false;
        bytes memory input = abi.encodeCall(IERC1271.isValidSignature, (digest, signature));
        bytes32 good = bytes32(IERC1271.isValidSignature.selector);
        // One word is copied back, whatever the wallet answers.
        assembly ("memory-safe") {
            ok := staticcall(WALLET_GAS, account, add(input, 0x20), mload(input), 0, 0x20)
            ok := and(ok, and(gt(returndatasize(), 0x1f), eq(mload(0), good)))
        }
    }
}
